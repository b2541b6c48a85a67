"""The core: mailboxes, asks, cells and the supervision that carries the model's decisions out."""
