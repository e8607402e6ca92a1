"""Codes that name one language: of two letters (ISO 639-1) and of three (ISO 639-3)."""

from __future__ import annotations

# Of three letters: the language's, and those of the one in a macrolanguage that data sets mean by it.
_THREE_LETTERS = {
    "af": "afr", "am": "amh", "ar": "ara arb", "as": "asm", "ast": "ast", "az": "aze azj", "be": "bel", "bg": "bul",
    "bn": "ben", "bo": "bod", "br": "bre", "bs": "bos", "ca": "cat", "ceb": "ceb", "ch": "cha", "cs": "ces",
    "cy": "cym", "da": "dan", "de": "deu", "dz": "dzo", "ee": "ewe", "el": "ell", "en": "eng", "eo": "epo",
    "es": "spa", "et": "est ekk", "eu": "eus", "fa": "fas pes", "fi": "fin", "fj": "fij", "fo": "fao", "fr": "fra",
    "fy": "fry", "ga": "gle", "gd": "gla", "gl": "glg", "gn": "grn gug", "gu": "guj", "ha": "hau", "he": "heb",
    "hi": "hin", "hr": "hrv", "ht": "hat", "hu": "hun", "hy": "hye", "ia": "ina", "id": "ind", "ie": "ile",
    "ig": "ibo", "io": "ido", "is": "isl", "it": "ita", "ja": "jpn", "jv": "jav", "ka": "kat", "kk": "kaz",
    "km": "khm", "kn": "kan", "ko": "kor", "ku": "kur kmr", "kw": "cor", "ky": "kir", "la": "lat", "lb": "ltz",
    "lg": "lug", "ln": "lin", "lo": "lao", "lt": "lit", "lv": "lav lvs", "mg": "mlg plt", "mh": "mah", "mi": "mri",
    "mk": "mkd", "ml": "mal", "mn": "mon khk", "mr": "mar", "ms": "msa zsm", "mt": "mlt", "my": "mya", "nb": "nob",
    "ne": "nep npi", "nl": "nld", "nn": "nno", "ny": "nya", "oc": "oci", "om": "orm gaz", "or": "ori ory", "pa": "pan",
    "pl": "pol", "ps": "pus pbt", "pt": "por", "qu": "que quy", "rn": "run", "ro": "ron", "ru": "rus", "rw": "kin",
    "sa": "san", "sd": "snd", "si": "sin", "sk": "slk", "sl": "slv", "sm": "smo", "sn": "sna", "so": "som",
    "sq": "sqi als", "sr": "srp", "ss": "ssw", "st": "sot", "su": "sun", "sv": "swe", "sw": "swa swh", "ta": "tam",
    "te": "tel", "tg": "tgk", "th": "tha", "ti": "tir", "tk": "tuk", "tl": "tgl", "tn": "tsn", "tr": "tur",
    "ts": "tso", "tt": "tat", "ug": "uig", "uk": "ukr", "ur": "urd", "uz": "uzb uzn", "vi": "vie", "wo": "wol",
    "xh": "xho", "yi": "yid ydd", "yo": "yor", "zh": "zho cmn", "zu": "zul",
}  # fmt: skip
_TWO_LETTERS = {three: two for two, codes in _THREE_LETTERS.items() for three in codes.split()}


def same_language(code: str) -> str:
    """One code for all that name a language: its ISO 639-1 code where it has one.

    Tags of region and script stay, for they may tell two languages of a data set apart: `zh-TW` is not `zh`.
    """
    return _TWO_LETTERS.get(code, code)
