"""The XHTML of a Narrative: the rules txt-1 and txt-2. What is checked came out of a template; nothing is fetched or expanded."""

from typing import Any, Final

XHTML: Final = "{http://www.w3.org/1999/xhtml}"
ELEMENTS: Final = frozenset({
    "a", "abbr", "acronym", "b", "big", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd", "dfn", "div", "dl", "dt",
    "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "ol", "p", "pre", "q", "s", "samp", "small", "span",
    "strike", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul", "var",
})  # fmt: skip
"""txt-1: the formatting elements of HTML 4.0 chapters 7 to 11 (but section 4 of 9) and 15, links, images."""


def xhtml_wrong(narrative: dict[str, Any]) -> bool:
    """Whether `div` is not one well-formed XHTML div with some text or an image, free of what runs."""
    from xml.etree import ElementTree as ET  # noqa: PLC0415 - rarely needed, and its import takes 10 ms

    text = narrative["div"]
    if "<!" in text.replace("<!--", ""):
        return True  # a DOCTYPE or CDATA; without a DOCTYPE there are no entities to expand
    try:
        div = ET.fromstring(text)  # noqa: S314 - see above
    except ET.ParseError:
        return True
    active = any(
        each.tag.removeprefix(XHTML) not in ELEMENTS or any(name.lower().startswith("on") for name in each.attrib)
        for each in div.iter()
    )
    said = "".join(div.itertext()).strip() or div.find(f".//{XHTML}img") is not None
    return div.tag != f"{XHTML}div" or active or not said
