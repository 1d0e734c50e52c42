"""Where the checkout lies, for tests that read its files or start commands in it."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SUPPORT = Path(__file__).parent
