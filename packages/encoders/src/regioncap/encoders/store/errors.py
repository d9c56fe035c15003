"""What goes wrong with a store that its user can mend."""


class StoreError(ValueError):
    """A feature store cannot be written or used; the message is one line that names the folder and the way out."""
