"""What is known of every task before any of its data is read: names, sources, layouts, and how to load it."""
