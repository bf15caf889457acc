"""Ranking of texts by how well they answer a query, in the forms of Jina, Cohere and TEI."""
