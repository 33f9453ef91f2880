"""Invented names of people, realms and towns."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    "Ada Alma Anselm Beatrix Bruno Cecily Clement Cora Dagny Edmund Elspeth Emeka Esme Farid"
    " Fergus Greta Hanneke Hattie Ignatius Imogen Ines Isolde Jasper Joost Jun Kamala Kofi"
    " Leonie Linnea Lucian Maeve Malika Mirek Nadia Nils Odile Oskar Paloma Perpetua Priya"
    " Quentin Rafael Renske Rosalind Rufus Sanna Silas Søren Tamsin Thaddeus Tilda Tomás"
    " Ulrike Viggo Wilhelmina Winifred Yusuf Yvaine Zeno Zoë"
)
SURNAMES = _words(
    "Abbotsleigh Arkwell Ashgrove Bellweather Birkmoor Blackthorne Brackenbury Calloway"
    " Carrick-Dunn Castellane Corvin Crabtree Dalgarno Danjuma Delacroze Dovecote Drummle"
    " Eastergate Ekholt Fairweather Fallowfield Fenwright Foxhollow Garrowby Gellert Goldfinch"
    " Greyling Halvorsdal Harkaway Hartigan-Moss Haverstock Hollowell Ibarrola Inglesby"
    " Jessamy Kestrelle Kirkbank Lanternier Larkspur Lindqvall Locksley-Orr Mabbott Marchbanks"
    " Merriweather Moravec-Lund Nakamori Netherby Nightingale Okonjo-Bay Oldcastle Osterling"
    " Pemberwick Penhallow Pettibone Quarles Quillfeather Ravensdale Rookwood Rosendahl"
    " Sablefield Saltmarsh Santorelli Shadwell Skarsgaard-Oyen Sparrowhawk Summerscale"
    " Tallis-Grey Thistlewood Thornquist Underhay Valderama Vanterpool Verhoeven-Lys Wakelin"
    " Weatherby Whitlock-Rao Winterbourne Wolfenden Yarrowby Zielony"
)
REALMS = _words(
    "Aldermere Ashkeld Belmarra Caldrith Dunvael Eryndor Faelmoor Gorrenth Halcyra Ithilwen"
    " Jorvast Kethara Lorrowind Morrigane Nyxara Oranthe Perraduin Quellis Ravenmark"
    " Sarnath-Tol Tamriven Umbrel Valdorne Xanthir Ysmere"
)
NUMBERS = _words("Seven Nine Twelve Twenty Thirty Forty Fifty Sixty Ninety Hundred")
TOWN_STARTS = _words(
    "Ald Amber Ash Barrow Black Bram Cold Corn Dun East Elder Fern Gold Gran Hare Hazel"
    " Hollow Kings Lang Lark Marl Mill Moor North Oak Otter Pen Raven Red Salt Sand Stan Thorn"
    " Wether Wex Whit Wren"
)
TOWN_ENDS = _words(
    "borough bridge bury by combe dale field ford gate ham haven hurst ley mere mouth port"
    " stead stoke thorpe ton wick wold worth"
)
COUNTRIES = (
    ("usa", ("oregon", "vermont", "iowa", "texas", "maine", "ohio", "california", "new mexico")),
    ("united kingdom", ("england", "scotland", "wales")),
    ("canada", ("ontario", "nova scotia", "manitoba")),
    ("australia", ("victoria", "tasmania", "queensland")),
    ("new zealand", ("otago", "waikato")),
    ("ireland", ("munster", "connacht")),
    ("germany", ("bavaria", "hessen", "sachsen")),
    ("portugal", ("algarve", "minho")),
)
