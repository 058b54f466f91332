"""What an infer request is made of: bound memory, terms, waiting, and where its time went."""
