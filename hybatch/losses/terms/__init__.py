"""Terms beside the contrastive loss: alignment of a query with its translation, lessons of a teacher."""
