"""Model folders of the Hugging Face hub, read and written."""
