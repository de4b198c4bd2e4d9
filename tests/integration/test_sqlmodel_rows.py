"""Rows of SQLModel come back by their columns, or are refused with the place and the remedy."""

# No annotations from __future__: SQLModel reads those of relationships when a class is made.
import pytest
from sqlmodel import Field, Relationship, Session, SQLModel, create_engine, select

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import UnknownType, UnsupportedType
from flowpersist.integrations import sqlmodel as of_sqlmodel


class Club(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    players: list["Player"] = Relationship(back_populates="club")


class Player(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    age: int = 3
    club_id: int | None = Field(default=None, foreign_key="club.id")
    club: Club | None = Relationship(back_populates="players")


class Draft(SQLModel):
    name: str


CODEC = Codec(of_sqlmodel.register(TypeRegistry.tree(Club, Player, Draft)), verify=True)


@pytest.fixture
def engine():
    made = create_engine("sqlite://")
    SQLModel.metadata.create_all(made)
    with Session(made) as session:
        session.add(Club(name="Red", players=[Player(name="Ana"), Player(name="Ben", age=4)]))
        session.commit()
    yield made
    made.dispose()


def again(value):
    return CODEC.decode(CODEC.encode(value).unwrap()).unwrap()


def columns(row):
    return {name: getattr(row, name) for name in type(row).model_fields}


@pytest.mark.parametrize(
    "row",
    [Player(name="Ana"), Player(name="Ana", age=7, club_id=1), Player.model_validate({"name": "Ana"}), Draft(name="x")],
    ids=["new", "full", "validated", "no table"],
)
def test_a_new_row_comes_back(row):
    copy, same = again([row, row])
    assert copy is same
    assert type(copy) is type(row)
    assert columns(copy) == columns(row)
    assert copy.model_fields_set == row.model_fields_set


def test_a_loaded_row_comes_back_and_merges(engine):
    with Session(engine) as session:
        rows = session.exec(select(Player)).all()
        copies = again(rows)
    assert [columns(copy) for copy in copies] == [
        {"id": n, "name": name, "age": age, "club_id": 1} for n, name, age in [(1, "Ana", 3), (2, "Ben", 4)]
    ]
    copies[0].age = 9
    with Session(engine) as session:
        assert session.merge(copies[0]).club.name == "Red"
        session.commit()
        assert session.get(Player, 1).age == 9


def test_an_expired_row_is_loaded_where_its_session_is_open(engine):
    with Session(engine) as session:
        row = session.get(Player, 1)
        session.commit()
        assert "name" not in vars(row)
        assert again([row])[0].name == "Ana"
        session.commit()
    error = CODEC.encode({"row": row}).failure()
    assert isinstance(error, UnsupportedType)
    assert error.path == "state['row']"
    assert "refresh it before its session ends" in error.message


def test_a_row_with_loaded_relationships_is_refused(engine):
    with Session(engine) as session:
        row = session.get(Player, 1)
        assert row.club.name == "Red"
        for value, name in ((row, "club"), (Club(name="New", players=[Player(name="Eve")]), "players")):
            error = CODEC.encode([value]).failure()
            assert isinstance(error, UnsupportedType)
            assert f"with rows of its relationship {name!r} can't be kept; keep these apart" in error.message
        session.expire(row)
        assert again([row])[0].club_id == 1


@pytest.mark.parametrize("types", [TypeRegistry.tree(Player), TypeRegistry()], ids=["as a model", "none"])
def test_a_row_of_a_class_that_is_registered_as_a_model_or_not_at_all_is_refused(types):
    error = Codec(types).encode([Player(name="Ana")]).failure()
    assert isinstance(error, UnsupportedType)
    assert error.path == "state[0]"
    if len(types):
        assert "from flowpersist.integrations import sqlmodel; sqlmodel.register(types)" in error.message


def test_a_state_of_a_session_is_refused_with_the_remedy():
    types = TypeRegistry()
    types.register(Player, attributes=True)
    error = Codec(types).encode([Player(name="Ana")]).failure()
    assert "keep the key of the row, or the values of its columns" in error.message


def test_columns_come_and_go():
    class Before(SQLModel):
        name: str
        rank: int = 1

    for fields, is_known in (({"name": "Ana"}, True), ({"name": "Ana", "rank": 2}, False)):
        types = TypeRegistry()
        types.register(
            Before,
            name=f"{Player.__module__}.Player",
            encode=lambda _, fields=fields: (fields, ("name",)),
            decode=Before,
        )
        result = CODEC.decode(Codec(types).encode([Before(name="x")]).unwrap())
        if is_known:
            assert columns(result.unwrap()[0]) == {"id": None, "name": "Ana", "age": 3, "club_id": None}
        else:
            assert isinstance(result.failure(), UnknownType)
            assert "the column 'rank'" in result.failure().message
