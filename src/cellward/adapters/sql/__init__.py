"""The registry in one SQLite file: `database` opens it, `schema-N.sql` bring it to version N."""

from cellward.adapters.sql.database import SCHEMA_VERSION
from cellward.adapters.sql.registry import SqliteRegistry

__all__ = ["SCHEMA_VERSION", "SqliteRegistry"]
