"""What features belong to."""

from feast import Entity, ValueType

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="pseudonym")
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
domain = Entity(
    name="domain",
    join_keys=["domain"],
    value_type=ValueType.STRING,
    description="a market; ids of items are only unique within one",
)
