"""What users pass in and read: settings, bodies, receipts, error messages."""

from .breakage import MODEL, Breakage
from .edits import Edit

VALUES = {
    "ids-do-not-ascend": Breakage(
        "the ids of one batch are in no order", (Edit("Clock.mint", "sorted", "list"),), (MODEL,)
    ),
    "delay-ignored": Breakage(
        "a send of many with a delay of its own takes the queue's",
        (Edit("_encode_delays", "delays.count(None) == len(delays)", "len(delays) > 1"),),
        (MODEL,),
    ),
    "a-receipt-is-an-id": Breakage(
        "a stale receipt deletes the message",
        (
            Edit(
                "id_and_fence",
                'id.id.encode(errors="surrogateescape"), id.fence',
                'id.id.encode(errors="surrogateescape"), b""',
            ),
        ),
        ("test_receipts.py::test_a_receipt_is_a_fence",),
    ),
    "a-url-is-shown": Breakage(
        "an error shows every value that may be a URL",
        (
            Edit(
                "InvalidParameterValue._display_value",
                'self.parameter != "url" and re.search("://|@", value)',
                "False",
            ),
        ),
        (
            "test_errors.py::test_urls_are_not_shown",
            "chaos/test_canary.py::test_canaries",
        ),
    ),
    "json-refuses-half-a-pair": Breakage(
        "JSON hands out half a surrogate pair, and refuses to send it",
        (Edit("JsonCodec.encode", 'raw = text.encode(errors="backslashreplace")', "raise"),),
        (
            "test_codecs.py::test_json_reads_and_writes_alike",
            "chaos/test_fuzz_parts.py::test_codecs",
        ),
    ),
    "a-host-is-anything": Breakage(
        "any text is looked up as a host, and shown",
        (Edit("_VALUE_CHECKS", "HOST.fullmatch", "str"),),
        ("bad_input/test_clients.py::TestClients::test_host",),
    ),
    "json-reads-infinity": Breakage(
        "JSON hands out numbers that it refuses to send",
        (
            Edit(
                "_decoder",
                "json.JSONDecoder(parse_float=_parse_finite, parse_constant=_reject_constant)",
                "json.JSONDecoder()",
            ),
        ),
        (
            "test_codecs.py::test_json_does_not_read_what_it_could_not_write",
            "chaos/test_fuzz_parts.py::test_codecs",
        ),
    ),
    "deleted-twice": Breakage(
        "two deletes of one message in one call both say that they have done it",
        (Edit("QueueSettler._submit_deletes.on_reply", "len(set(ids)) < len(ids)", "False"),),
        (MODEL,),
    ),
    "nan-becomes-null": Breakage(
        "a typed codec writes NaN as null where null can be read",
        (
            Edit(
                "_TypedCodec._check_unreplaced",
                "count != self._count_unrepresentable(decoded)",
                "False",
            ),
        ),
        (
            "test_codecs.py::test_typed_infinity",
            "chaos/test_fuzz_parts.py::test_typed_codecs_read_and_write_alike",
        ),
    ),
    "a-codec-is-quoted": Breakage(
        "an error repeats what a user's codec says of a body",
        (
            Edit(
                "refusal_reason",
                'return f"{type(codec).__name__} raised {type(error).__name__}"',
                "return str(error)",
            ),
        ),
        (
            "bad_input/test_parameters.py::TestMessages::test_codec_that_quotes",
            "chaos/test_canary.py::test_canaries",
        ),
    ),
    "a-piece-of-a-password-is-a-host": Breakage(
        "a URL that its password has cut to pieces is taken at its word",
        (
            Edit(
                "_find_url_fault",
                '"@" in parts.query or "#" in url or (parts.netloc and "@" in parts.path)',
                "False",
            ),
        ),
        (
            "bad_input/test_clients.py::TestClients::test_password_that_is_not_encoded",
            "chaos/test_canary.py::test_canaries",
        ),
    ),
}
