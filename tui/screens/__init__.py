"""The five screens, in the order of their keys."""

from tui.screens.catalog import Catalog
from tui.screens.chat import Chat
from tui.screens.downloads import Downloads
from tui.screens.log import Log
from tui.screens.memory import Memory
from tui.screens.view import View

VIEWS: tuple[type[View], ...] = (Catalog, Downloads, Memory, Chat, Log)
