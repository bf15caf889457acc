"""HTTP connections of downloads: to the Hub, to URLs and to other cores."""
