"""Memory that a model needs, and the devices it is placed on."""
