"""The ten genres of the generated bookshop, and the words of their titles."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Genre:
    """What books of one kind are called, who prints them, and who reads them.

    `peak_age` and `age_width` (years): readers of about that age favour the genre. Patterns
    are filled from the lists with the same names; `{town}` and `{name}` from the shared ones.
    """

    name: str
    peak_age: int
    age_width: int
    imprints: tuple[str, ...]
    series: tuple[str, ...]
    patterns: tuple[str, ...]
    adjective: tuple[str, ...]
    noun: tuple[str, ...]
    thing: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split(" | "))


GENRES = (
    Genre(
        name="crime",
        peak_age=52,
        age_width=18,
        imprints=_phrases("Lockwarden | Quill & Cudgel | Night Bus Books"),
        series=_phrases(
            "Inspector {name} | The {town} Inquests | {name} & Daughter | A {town} Mystery"
        ),
        patterns=_phrases(
            "The {adjective} {noun} | Death of a {noun} | A {thing} in {town} | The {town} {noun}"
            " | {thing} for the {noun} | The {noun}'s {thing}"
        ),
        adjective=_words(
            "Silent Missing Crooked Hanged Patient Absent Guilty Locked Borrowed Spotless Second"
            " Faithful Unsigned Buried Nervous Reluctant"
        ),
        noun=_words(
            "Witness Widow Coroner Lodger Sexton Constable Juror Locksmith Bookkeeper Organist"
            " Verger Chemist Landlady Informer Magistrate Pallbearer Tenant Notary"
        ),
        thing=_words(
            "Alibi Verdict Motive Confession Fingerprint Autopsy Cellar Poison Ransom Blackmail"
            " Inquest Footprint Warrant"
        ),
    ),
    Genre(
        name="romance",
        peak_age=34,
        age_width=14,
        imprints=_phrases("Honeysuckle House | Two Umbrellas | Ribbon Lane"),
        series=_phrases(
            "The {town} Brides | Sisters of {town} | {name} Hall | The {town} Tea Rooms"
        ),
        patterns=_phrases(
            "The {adjective} {noun} | {thing} in {town} | A {noun} for {name} | Her {adjective}"
            " {noun} | {thing} and {noun}s | The {noun} Next Door"
        ),
        adjective=_words(
            "Runaway Unlikely Tender Honeyed Forgotten Reckless Promised Secret Moonlit Stubborn"
            " Blushing Accidental Wayward Summer Velvet Hopeful"
        ),
        noun=_words(
            "Bride Kiss Promise Valentine Duke Letter Dance Bouquet Sweetheart Suitor Heiress"
            " Wedding Waltz Florist Proposal Heartbeat"
        ),
        thing=_words(
            "Love Kisses Champagne Heartache Roses Moonlight Lavender Passion Starlight Courtship"
            " Ribbons Confetti"
        ),
    ),
    Genre(
        name="fantasy",
        peak_age=24,
        age_width=12,
        imprints=_phrases("Wyvern & Thistle | Ninth Gate | Emberwood"),
        series=_phrases(
            "The Chronicles of {realm} | The {realm} Cycle | Heirs of {realm} | The {adjective}"
            " Throne of {realm}"
        ),
        patterns=_phrases(
            "The {adjective} {noun} | {noun} of {realm} | The {noun} and the {thing} | A {thing}"
            " of {noun}s | Song of the {adjective} {thing} | The Last {noun} of {realm}"
        ),
        adjective=_words(
            "Ashen Runebound Sunless Thorned Starless Emerald Sworn Hollow Ninefold Frostborn"
            " Gilded Wandering Nameless Storm-Called Undying Cindered"
        ),
        noun=_words(
            "Dragon Mage Wyrm Spellwright Sorceress Oathkeeper Griffin Warlock Enchanter"
            " Rook-King Necromancer Witch Elf-Queen Swordmaiden Oracle Changeling"
        ),
        thing=_words(
            "Crown Rune Blade Amulet Grimoire Sceptre Chalice Spell Prophecy Cauldron Talisman"
            " Dagger Wand"
        ),
    ),
    Genre(
        name="sci-fi",
        peak_age=30,
        age_width=14,
        imprints=_phrases("Perihelion | Vacuum Flask Press | Long Orbit"),
        series=_phrases(
            "The {realm} Colonies | {realm} Station | The {name} Paradox | Starship {realm}"
        ),
        patterns=_phrases(
            "The {adjective} {noun} | {noun} of {realm} | {realm} {thing} | {thing} Zero | The"
            " {noun} {thing} | Beyond the {adjective} {noun}"
        ),
        adjective=_words(
            "Quantum Orbital Synthetic Cryogenic Stellar Binary Drifting Terraformed Superluminal"
            " Entangled Lunar Galactic Recursive Weightless Ionised Telepathic"
        ),
        noun=_words(
            "Android Nebula Starship Satellite Cosmonaut Asteroid Airlock Reactor Hyperdrive"
            " Comet Wormhole Planet Colony Clone Singularity Robot"
        ),
        thing=_words(
            "Protocol Signal Horizon Paradox Transmission Contact Sequence Directive Equation"
            " Trajectory Cascade Gravity"
        ),
    ),
    Genre(
        name="history",
        peak_age=62,
        age_width=16,
        imprints=_phrases("Annal Press | Tallow & Vellum | Old Customs House"),
        series=_phrases(
            "A People's History of {town} | The {name} Dynasty | Wars of the {adjective} Century"
            " | Letters from {town}"
        ),
        patterns=_phrases(
            "{town}: A History of {thing} | The {adjective} {noun} | {thing} and {noun} in the"
            " {adjective} Age | The {noun} of {town} | {name}'s {noun} | The Age of {thing}"
        ),
        adjective=_words(
            "Imperial Medieval Ottoman Georgian Revolutionary Byzantine Colonial Ancient Feudal"
            " Victorian Carolingian Norman Restoration Hanseatic"
        ),
        noun=_words(
            "Emperor Treaty Siege Parliament Crusade Armada Regiment Rebellion Dynasty Guild"
            " Ambassador Republic Battlefield Cathedral"
        ),
        thing=_words(
            "Empire Salt Gunpowder Revolution Conquest Trade Plague Cavalry Silk Taxation Heresy"
            " Printing Exile"
        ),
    ),
    Genre(
        name="thriller",
        peak_age=42,
        age_width=16,
        imprints=_phrases("Redline | Dead Drop | Cobalt Street"),
        series=_phrases("Agent {name} | The {name} Files | {name} at War | The {town} Conspiracy"),
        patterns=_phrases(
            "The {name} {thing} | {adjective} {thing} | The {adjective} {noun} | {thing} at"
            " Midnight | The {noun} {thing} | Zero {thing}"
        ),
        adjective=_words(
            "Lethal Covert Final Hostile Classified Deadly Rogue Terminal Hidden Absolute Armed"
            " Fatal Critical Burning Untraceable Double"
        ),
        noun=_words(
            "Assassin Hostage Sniper Courier Submarine President Bomber Fugitive Cipher Hacker"
            " Mercenary Saboteur Agent Defector"
        ),
        thing=_words(
            "Countdown Protocol Deception Extraction Target Ultimatum Betrayal Pursuit Evidence"
            " Explosion Blackout Manhunt Deadline Dossier"
        ),
    ),
    Genre(
        name="children",
        peak_age=16,
        age_width=9,
        imprints=_phrases("Puddleduck Lane | Paper Kite | Jam Jar Books"),
        series=_phrases(
            "{first} and the {noun} | The {adjective} {noun} Club | {first} of {town} | {first}"
            " Investigates"
        ),
        patterns=_phrases(
            "{first} and the {adjective} {noun} | The {noun} Who Lost a {thing} | {first}'s"
            " {adjective} {thing} | The {adjective} {noun} | Good Night, {adjective} {noun} |"
            " {first} Goes to {town}"
        ),
        adjective=_words(
            "Giggling Wobbly Invisible Grumpy Enormous Sleepy Magical Muddy Ticklish Upside-Down"
            " Naughty Whispering Smallest Polka-Dot Sneezing Jumping"
        ),
        noun=_words(
            "Hedgehog Penguin Teddy Elephant Puppy Kitten Badger Giraffe Dinosaur Pirate Snowman"
            " Mouse Caterpillar Goose Pony Walrus"
        ),
        thing=_words(
            "Balloon Birthday Treehouse Sandcastle Mitten Lollipop Rainbow Pyjamas Wheelbarrow"
            " Whistle Button Bicycle"
        ),
    ),
    Genre(
        name="cookery",
        peak_age=46,
        age_width=20,
        imprints=_phrases("Copper Pan | Salt Cellar | The Long Table"),
        series=_phrases(
            "The {town} Kitchen | {first} Cooks | The {adjective} Table | A Year of {thing}"
        ),
        patterns=_phrases(
            "The {adjective} {noun} | {thing} and {other}: {number} Recipes | {first}'s"
            " {adjective} {noun} | The {town} {noun} | Simply {thing} | Cooking with {thing}"
        ),
        adjective=_words(
            "Slow Rustic Seasonal Vegetarian Frugal Weeknight Buttery Smoky Wholesome"
            " Mediterranean Pickled Sunday Spiced Farmhouse"
        ),
        noun=_words(
            "Cookbook Kitchen Baker Pantry Oven Table Larder Supper Casserole Bakery Picnic Skillet"
        ),
        thing=_words(
            "Bread Lemons Olives Garlic Chocolate Rye Cheese Mushrooms Soup Pastry Saffron"
            " Cardamom Beans Noodles Butter Figs"
        ),
    ),
    Genre(
        name="travel",
        peak_age=38,
        age_width=22,
        imprints=_phrases("Milepost | Far Harbour | Third Class Ticket"),
        series=_phrases(
            "{name} on Foot | Slow Trains to {town} | {first} Abroad | The {adjective} Roads"
        ),
        patterns=_phrases(
            "{number} Days in {town} | The {adjective} {noun} | {thing} to {town} | By {thing}"
            " across the {noun} | The {noun} beyond {town} | A {noun} and a {thing}"
        ),
        adjective=_words(
            "Dusty Overland Unhurried Monsoon Coastal Winding Northern Equatorial Nomad"
            " Borderless Saharan Andean Himalayan Barefoot"
        ),
        noun=_words(
            "Caravan Steppe Archipelago Desert Border Bazaar Railway Pilgrim Passport Voyage"
            " Peninsula Mountains Backpack Atlas"
        ),
        thing=_words(
            "Ferry Bicycle Sleeper Donkey Tramline Canoe Footpath Motorcycle Steamer Rucksack"
            " Postbus Compass"
        ),
    ),
    Genre(
        name="nature",
        peak_age=56,
        age_width=20,
        imprints=_phrases("Wren & Lichen | Tidepool | Hedgerow Editions"),
        series=_phrases(
            "The {town} Almanac | A Naturalist in {town} | Notes from the {adjective} Shore |"
            " {first}'s Garden"
        ),
        patterns=_phrases(
            "The {adjective} {noun} | The Secret Life of the {noun} | A Field Guide to {thing} |"
            " {thing} of {town} | The {noun} in the {adjective} Wood | {thing} in Winter"
        ),
        adjective=_words(
            "Tidal Mossy Migrating Evergreen Feathered Upland Wild Marshland Nesting Alpine"
            " Woodland Estuarine Nocturnal Flowering"
        ),
        noun=_words(
            "Heron Otter Oak Beaver Beekeeper Owl Salmon Curlew Kestrel Beetle Moth Fern Swift"
            " Orchid"
        ),
        thing=_words(
            "Wildflowers Lichens Songbirds Bees Seaweeds Butterflies Mosses Ferns Orchards"
            " Hedgerows Mushrooms Ponds"
        ),
    ),
)
