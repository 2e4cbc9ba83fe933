"""Both Uptane repositories as the maker writes them."""
