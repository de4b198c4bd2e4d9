"""Whether a store has indexes to use: some that speak MongoDB's protocol take them, and scan."""

from __future__ import annotations

from urllib.parse import urlsplit

from places import Place

__all__ = ["uses_indexes"]


async def uses_indexes(place: Place) -> bool:
    """As the server itself explains a query; one that can't explain any is taken to scan."""
    if place.name not in {"mongodb", "ferretdb"}:
        return place.name != "memory"
    import pymongo
    from pymongo.errors import OperationFailure

    client: pymongo.AsyncMongoClient[dict[str, object]] = pymongo.AsyncMongoClient(place.url)
    async with client:
        database = client[urlsplit(place.url).path.strip("/") or "flowpersist"]
        collection = database[f"{place.prefix()}_explained"]
        await collection.create_index("a", name="by_a")
        try:
            plan = await database.command("explain", {"find": collection.name, "filter": {"a": 1}, "hint": "by_a"})
        except OperationFailure:
            return False
        finally:
            await collection.drop()
    return "IXSCAN" in str(plan)
