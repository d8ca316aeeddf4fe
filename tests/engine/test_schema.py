"""Changes of a schema: what merges, what is refused, and that a name taken again has storage of its own."""

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elacsym.engine.request import AttributeChange, OptionsChange, SchemaChange
from elacsym.engine.schema import changed, check_vectors, extended, merged
from elacsym.errors import InvalidRequest, InvalidShape, MetricConflict, SchemaConflict
from elacsym.types import Attribute, AttributeType, FullText, Metric, Options, Schema

TEXT, TEXTS, VECTOR = "string", "[]string", "[2]f32"


def said(type_, **options):
    return AttributeChange(AttributeType.parse(type_), options)


def shorthand(type_):
    return AttributeChange(AttributeType.parse(type_), is_shorthand=True)


def after(schema, metric=None, id_type=None, **attributes):
    return changed(schema, SchemaChange(attributes, id_type, metric))


def of(**attributes):
    return after(Schema(), **attributes)


# --- new attributes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["string", "[]string", "int", "datetime", "[]uuid", "bool"])
def test_a_new_attribute_is_filterable(type_):
    assert of(x=said(type_)).attributes["x"].filterable
    assert of(x=shorthand(type_)).attributes["x"].filterable


@pytest.mark.parametrize("option", ["full_text", "regex", "glob", "fuzzy"])
def test_a_search_option_makes_a_new_attribute_not_filterable_unless_it_says_so(option):
    assert not of(x=said(TEXT, **{option: True})).attributes["x"].filterable
    assert of(x=said(TEXT, **{option: True, "filterable": True})).attributes["x"].filterable
    assert of(x=said(TEXT, **{option: False})).attributes["x"].filterable


@pytest.mark.parametrize("type_", ["bytes", VECTOR, "{}f16", "[][2]f32"])
def test_bytes_and_vectors_are_never_filterable(type_):
    assert not after(Schema(), metric=Metric.L2, x=said(type_)).attributes["x"].filterable
    with pytest.raises(InvalidRequest, match=r"schema\.x\.filterable: .* is never filterable"):
        after(Schema(), metric=Metric.L2, x=said(type_, filterable=True))


@pytest.mark.parametrize("option", ["full_text", "regex", "glob", "fuzzy"])
@pytest.mark.parametrize("type_", ["int", "[]int", "uuid", "bytes", VECTOR])
def test_search_options_are_for_texts(option, type_):
    with pytest.raises(InvalidRequest, match=r"schema\.x\..* needs string or \[\]string, not"):
        after(Schema(), metric=Metric.L2, x=said(type_, **{option: True}))


@pytest.mark.parametrize("name", ["", "$x", "id", "x" * 129])
def test_a_name_that_no_attribute_may_have_is_refused(name):
    with pytest.raises(InvalidRequest):
        of(**{name: said(TEXT)})


# --- options change -----------------------------------------------------------------------------------------


def test_options_that_are_not_named_stay():
    schema = of(x=said(TEXT, full_text={"language": "german", "stemming": True}, glob=True))
    schema = after(schema, x=said(TEXT, full_text={"k1": 2.0}, filterable=True))
    assert schema.attributes["x"] == Attribute(
        AttributeType.parse(TEXT),
        filterable=True,
        full_text=FullText(language="german", stemming=True, k1=2.0),
        glob=True,
    )
    assert after(schema, x=said(TEXT, full_text=True)) is schema, "settings stay where it is on already"
    assert after(schema, x=said(TEXT, full_text=False, glob=False)).attributes["x"] == Attribute(
        AttributeType.parse(TEXT)
    )


@pytest.mark.parametrize("filterable", [True, False])
def test_a_bare_type_switches_the_search_options_off_and_keeps_filterable(filterable):
    options = {"full_text": True, "regex": True, "glob": True, "fuzzy": True}
    schema = after(of(x=said(TEXT, filterable=filterable, **options)), x=shorthand(TEXT))
    assert schema.attributes["x"] == Attribute(AttributeType.parse(TEXT), filterable)


def test_switching_a_search_option_on_later_leaves_filterable_as_it_is():
    assert after(of(x=said(TEXT)), x=said(TEXT, full_text=True)).attributes["x"].filterable


@pytest.mark.parametrize(("known", "given_"), [(TEXT, "int"), ("[]int", "int"), (VECTOR, "[3]f32")])
@pytest.mark.parametrize("form", [said, shorthand])
def test_a_type_never_changes(known, given_, form):
    schema = after(Schema(), metric=Metric.L2, x=said(known))
    with pytest.raises(SchemaConflict) as error:
        after(schema, x=form(given_))
    assert str(error.value) == (
        f"invalid schema update for attribute 'x': cannot change attribute type from {known} to {given_}"
    )
    assert error.value.attribute == "x"


def test_an_array_of_unknown_elements_gets_its_type_once():
    schema = merged(Schema(), {"x": Attribute(AttributeType.parse("[]unknown"))}, id_type="uint")
    typed = merged(schema, {"x": Attribute(AttributeType.parse("[]int"))}, id_type="uint")
    assert (
        str(typed.attributes["x"].type) == str(after(schema, x=said("[]int")).attributes["x"].type) == "[]int"
    )
    assert merged(typed, schema.attributes, id_type="uint") is typed
    for refused in ("int", "[][2]f32", "{}f16"):
        with pytest.raises(SchemaConflict):
            after(schema, metric=Metric.L2, x=said(refused))


def test_what_says_nothing_new_gives_the_same_schema():
    schema = after(
        Schema(), metric=Metric.L2, id_type="uuid", x=said(TEXT, full_text={"b": 0.5}), v=said(VECTOR)
    )
    again = after(
        schema, metric=Metric.L2, id_type="uuid", x=said(TEXT, full_text={"b": 0.5}), v=shorthand(VECTOR)
    )
    assert again is schema
    assert changed(schema, SchemaChange()) is schema
    assert merged(schema, {}, id_type="uuid") is schema


# --- settings of full text ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["tokenizer", "language"])
def test_an_unknown_tokenizer_or_language_is_of_the_wrong_shape(key):
    with pytest.raises(InvalidShape, match=rf"schema\.x\.full_text_search\.{key}: unknown"):
        of(x=said(TEXT, full_text={key: "klingon"}))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"stemming": True, "case_sensitive": True}, "stemming"),
        *[
            ({"remove_stopwords": True, "language": one}, "remove_stopwords")
            for one in ("arabic", "greek", "romanian", "tamil", "turkish")
        ],
        ({"max_token_length": 0}, "max_token_length"),
        ({"max_token_length": 255}, "max_token_length"),
        ({"k1": 0.0}, "k1"),
        ({"b": 1.1}, "b"),
        ({"b": float("nan")}, "b"),
        ({"k3": -1.0}, "k3"),
        ({"tokenizer": "pre_tokenized_array"}, "tokenizer"),
    ],
)
def test_values_and_combinations_that_no_analysis_has_are_refused(settings, field):
    with pytest.raises(InvalidRequest, match=rf"schema\.x\.full_text_search\.{field}: ") as error:
        of(x=said(TEXT, full_text=settings))
    assert error.value.status == 400


@pytest.mark.parametrize(
    "settings",
    [{"language": "english"}, {"stemming": True}, {"remove_stopwords": True}, {"case_sensitive": False}],
)
def test_tokens_that_are_given_are_not_analysed(settings):
    given_tokens = {"tokenizer": "pre_tokenized_array"}
    assert of(x=said(TEXTS, full_text=given_tokens | {"case_sensitive": True, "k1": 2.0}))
    with pytest.raises(InvalidRequest, match=rf"full_text_search\.{next(iter(settings))}: ") as error:
        of(x=said(TEXTS, full_text=given_tokens | settings))
    assert error.value.status == 400


def test_a_partial_change_is_checked_together_with_what_is_there():
    schema = of(x=said(TEXT, full_text={"case_sensitive": True}))
    with pytest.raises(InvalidRequest, match="stemming"):
        after(schema, x=said(TEXT, full_text={"stemming": True}))


# --- drops --------------------------------------------------------------------------------------------------


def test_a_name_that_was_dropped_has_storage_of_its_own_when_it_is_taken_again():
    schema = of(x=said(TEXT), y=said("int"))
    assert schema.stored("x") == "x"
    names = {"x"}
    for _ in range(3):
        schema = after(schema, x=None)
        assert "x" not in schema.attributes
        assert schema.stored("y") == "y"
        schema = after(schema, x=said("int"))
        assert schema.stored("x") not in names
        names.add(schema.stored("x"))


def test_documents_and_declarations_take_a_dropped_name_likewise():
    dropped = after(of(x=said(TEXT)), x=None)
    number = Attribute(AttributeType.parse("int"))
    inferred = merged(dropped, {"x": number}, id_type="uint")
    declared = extended(dropped, Schema(attributes=MappingProxyType({"x": number})))
    assert inferred.stored("x") == declared.stored("x") != "x"
    assert extended(declared, Schema(attributes=MappingProxyType({"x": number}))) is declared


def test_dropping_what_is_not_there_changes_nothing_and_ids_stay():
    schema = of(x=said(TEXT))
    assert after(schema, nothing=None) is schema
    with pytest.raises(InvalidRequest, match=r"schema\.id: "):
        after(schema, id=None)


@given(st.lists(st.sampled_from(["drop x", "drop y", "take x", "take y"]), max_size=30))
def test_no_two_lives_of_an_attribute_share_storage(steps):
    schema, taken = Schema(), []
    for step in steps:
        verb, name = step.split()
        before = schema
        schema = after(schema, **{name: None if verb == "drop" else said(TEXT)})
        if verb == "take" and name not in before.attributes:
            taken.append(schema.stored(name))
    assert len(taken) == len(set(taken))
    assert Schema.from_json(schema.to_json()) == schema


# --- ids, metric, options -----------------------------------------------------------------------------------


def test_the_type_of_ids_is_declared_once():
    schema = after(Schema(), id_type="uuid")
    assert schema.id_type == "uuid"
    with pytest.raises(SchemaConflict, match="cannot change attribute type from uuid to string"):
        after(schema, id_type="string")


def test_vectors_need_a_metric_which_never_changes():
    with pytest.raises(InvalidRequest, match="distance_metric must be specified"):
        of(v=said(VECTOR))
    schema = after(Schema(), metric=Metric.COSINE, v=said(VECTOR))
    assert after(schema, w=said(VECTOR)).metric is Metric.COSINE
    with pytest.raises(MetricConflict, match="distance metric mismatch, expected cosine, got l2"):
        after(schema, metric=Metric.L2)


def test_vectors_of_documents_need_a_metric_unless_there_is_a_default():
    vector = {"v": Attribute(AttributeType.parse(VECTOR), filterable=False)}
    assert merged(Schema(), vector, id_type="uint").metric is Metric.COSINE
    bare = merged(Schema(), vector, id_type="uint", defaults_metric=False)
    with pytest.raises(InvalidRequest, match="distance_metric must be specified"):
        check_vectors(Schema(), bare, None)
    change = SchemaChange(metric=Metric.L2)
    whole = merged(changed(Schema(), change), vector, id_type="uint", defaults_metric=False)
    check_vectors(Schema(), whole, change)
    assert whole.metric is Metric.L2


def test_a_namespace_that_was_created_without_vectors_gets_none():
    before = merged(Schema(), {"x": Attribute(AttributeType.parse("int"))}, id_type="uint")
    change = SchemaChange({"v": said(VECTOR)}, metric=Metric.L2)
    with pytest.raises(InvalidRequest, match="Vector provided for namespace without vector attribute"):
        check_vectors(before, changed(before, change), change)
    change = SchemaChange(metric=Metric.L2)
    with pytest.raises(InvalidRequest, match="namespace configured without vector indexing"):
        check_vectors(before, changed(before, change), change)
    check_vectors(before, before, SchemaChange())


def test_a_namespace_whose_only_vector_was_dropped_may_get_another():
    before = merged(after(Schema(), metric=Metric.L2, v=said(VECTOR)), {}, id_type="uint")
    dropped = after(before, v=None)
    change = SchemaChange({"w": said(VECTOR)}, metric=Metric.L2)
    check_vectors(dropped, changed(dropped, change), change)
    check_vectors(dropped, dropped, SchemaChange(metric=Metric.L2))


def test_a_read_only_namespace_takes_options_only():
    locked = changed(of(x=said(TEXT)), SchemaChange(options=OptionsChange(read_only=True)))
    for change in (SchemaChange({"x": shorthand(TEXT)}), SchemaChange(metric=Metric.L2)):
        with pytest.raises(InvalidRequest, match=r"Writes not permitted. This namespace is read-only\."):
            changed(locked, change)
    assert not changed(locked, SchemaChange(options=OptionsChange(read_only=False))).options.read_only


def test_options_of_the_namespace_that_are_not_named_stay():
    first = changed(Schema(), SchemaChange(id_type="uint", options=OptionsChange(replicas=2)))
    both = changed(first, SchemaChange(options=OptionsChange(read_only=True)))
    assert both.options == Options(read_only=True, replicas=2)
    assert changed(both, SchemaChange(options=OptionsChange(replicas=0))).options == Options(read_only=True)


def test_shards_are_settled_with_the_namespace():
    sharded = changed(Schema(), SchemaChange(id_type="uint", options=OptionsChange(shards=4)))
    assert changed(sharded, SchemaChange(options=OptionsChange(shards=4))) is sharded
    for schema, shards in ((sharded, 5), (after(Schema(), id_type="uint"), 4)):
        with pytest.raises(InvalidRequest, match="sharding: "):
            changed(schema, SchemaChange(options=OptionsChange(shards=shards)))


def test_limits_hold_for_changes():
    vectors = {f"v{i}": said(VECTOR) for i in range(9)}
    with pytest.raises(InvalidRequest, match="9 vector attributes where 8 are allowed"):
        after(Schema(), metric=Metric.L2, **vectors)
    with pytest.raises(InvalidRequest, match="1025 attributes where 1024 are allowed"):
        of(**{f"x{i}": said("int") for i in range(1_025)})
