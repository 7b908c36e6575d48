"""Choose a backbone by timm's published accuracy, size and speed."""
