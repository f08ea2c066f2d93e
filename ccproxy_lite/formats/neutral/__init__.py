"""What the wire formats have in common: requests, answers, and how one is made to fit the other. Pure."""
