"""The commands of the service by what they are about; `Deck` puts them together."""
