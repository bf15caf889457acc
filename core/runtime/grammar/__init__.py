"""Grammars of structured output: GBNF, JSON Schema, regular expressions, Lark."""
