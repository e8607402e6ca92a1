"""Tables before they are rendered, of any results, and how they are printed."""
