//! The words that the demo's items are named with.

/// A department: its name and five aisles, each with its products.
type Department = (&'static str, [(&'static str, [&'static str; 3]); 5]);

pub(super) const DEPARTMENTS: [Department; 8] = [
    (
        "Garden",
        [
            ("Hand Tools", ["Trowel", "Pruning Shears", "Weeding Fork"]),
            (
                "Watering",
                ["Watering Can", "Hose Reel", "Drip Irrigation Kit"],
            ),
            (
                "Seeds",
                ["Tomato Seeds", "Wildflower Seed Mix", "Basil Seeds"],
            ),
            (
                "Planters",
                ["Terracotta Pot", "Hanging Basket", "Raised Bed"],
            ),
            (
                "Outdoor Lighting",
                ["Solar Lantern", "Path Light", "String Lights"],
            ),
        ],
    ),
    (
        "Kitchen",
        [
            ("Knives", ["Chef Knife", "Bread Knife", "Paring Knife"]),
            ("Cookware", ["Frying Pan", "Dutch Oven", "Saucepan"]),
            ("Baking", ["Cake Tin", "Rolling Pin", "Muffin Tray"]),
            (
                "Coffee",
                ["Espresso Maker", "Coffee Grinder", "Pour-Over Dripper"],
            ),
            ("Storage", ["Glass Jar Set", "Bread Box", "Lunch Container"]),
        ],
    ),
    (
        "Music",
        [
            ("Guitars", ["Acoustic Guitar", "Electric Guitar", "Ukulele"]),
            (
                "Strings and Picks",
                ["Guitar Strings", "Plectrum Set", "Capo"],
            ),
            (
                "Keyboards",
                ["Digital Piano", "Synthesizer", "MIDI Keyboard"],
            ),
            (
                "Microphones",
                ["Condenser Microphone", "Microphone Stand", "Pop Filter"],
            ),
            (
                "Headphones",
                [
                    "Studio Headphones",
                    "In-Ear Monitors",
                    "Headphone Amplifier",
                ],
            ),
        ],
    ),
    (
        "Outdoors",
        [
            (
                "Backpacks",
                ["Trekking Backpack", "Day Pack", "Hydration Pack"],
            ),
            ("Tents", ["Two-Person Tent", "Tarp Shelter", "Family Tent"]),
            (
                "Sleeping",
                ["Sleeping Bag", "Sleeping Mat", "Camping Pillow"],
            ),
            ("Camp Kitchen", ["Gas Stove", "Cooking Set", "Water Filter"]),
            ("Footwear", ["Hiking Boots", "Trail Shoes", "Wool Socks"]),
        ],
    ),
    (
        "Art",
        [
            (
                "Paint",
                ["Watercolour Set", "Acrylic Paint", "Oil Paint Tubes"],
            ),
            (
                "Brushes",
                ["Round Brush", "Flat Brush Set", "Palette Knife"],
            ),
            ("Paper", ["Sketchbook", "Watercolour Paper", "Drawing Pad"]),
            ("Pens", ["Fountain Pen", "Brush Pen", "Fineliner Set"]),
            ("Easels", ["Table Easel", "Studio Easel", "Canvas Pack"]),
        ],
    ),
    (
        "Pets",
        [
            ("Dog Food", ["Dry Dog Food", "Dog Biscuits", "Dental Chews"]),
            (
                "Leads and Collars",
                ["Dog Lead", "Dog Collar", "Dog Harness"],
            ),
            (
                "Cat Toys",
                ["Feather Wand", "Catnip Mouse", "Scratching Post"],
            ),
            (
                "Aquariums",
                ["Fish Tank", "Aquarium Pump", "Aquarium Gravel"],
            ),
            ("Beds and Baskets", ["Dog Bed", "Cat Basket", "Pet Blanket"]),
        ],
    ),
    (
        "Care",
        [
            ("Shampoo", ["Shampoo", "Conditioner", "Scalp Serum"]),
            ("Skin", ["Face Cream", "Body Lotion", "Sunscreen"]),
            (
                "Shaving",
                ["Safety Razor", "Shaving Soap", "Aftershave Balm"],
            ),
            ("Make-up", ["Lipstick", "Mascara", "Foundation"]),
            (
                "Fragrance",
                ["Eau de Toilette", "Perfume Oil", "Scented Candle"],
            ),
        ],
    ),
    (
        "Games",
        [
            (
                "Board Games",
                ["Strategy Board Game", "Family Board Game", "Dice Game"],
            ),
            (
                "Card Games",
                ["Card Game", "Playing Cards", "Trick-Taking Game"],
            ),
            ("Puzzles", ["Jigsaw Puzzle", "Wooden Puzzle", "Logic Cube"]),
            (
                "Miniatures",
                ["Miniature Set", "Terrain Kit", "Model Knight"],
            ),
            (
                "Role-Playing",
                ["Rule Book", "Adventure Module", "Polyhedral Dice Set"],
            ),
        ],
    ),
];

/// A style: its name, its adjectives and the brands that make it.
type Style = (&'static str, [&'static str; 4], [&'static str; 4]);

pub(super) const STYLES: [Style; 6] = [
    (
        "Budget",
        ["Simple", "Basic", "Everyday", "Handy"],
        ["Pennywise", "Okko", "Plainfield", "Tally"],
    ),
    (
        "Eco",
        ["Recycled", "Organic", "Natural", "Fair-Trade"],
        ["Greenleaf", "Terrano", "Mossway", "Root & Rye"],
    ),
    (
        "Vintage",
        ["Classic", "Retro", "Heritage", "Antique-Look"],
        ["Oldbury", "Marlow & Sons", "Hartwell", "Gramercy"],
    ),
    (
        "Sport",
        ["Rugged", "Lightweight", "Fast", "Waterproof"],
        ["Velox", "Nordhang", "Kestrel", "Summit 8"],
    ),
    (
        "Design",
        ["Minimalist", "Sculpted", "Matte Black", "Geometric"],
        ["Forma", "Lumo", "Studio Vind", "Arkit"],
    ),
    (
        "Premium",
        ["Handmade", "Professional", "Limited-Edition", "Master"],
        ["Aurelius", "Chevron & Co", "Belvoir", "Sterling"],
    ),
];

/// Product lines, across departments.
pub(super) const LINES: [&str; 5] = ["Aurora", "Harbour", "Juniper", "Meridian", "Saffron"];
