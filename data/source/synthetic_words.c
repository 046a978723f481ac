/* The words of the synthetic tasks. The first 96 are eight groups of twelve, in the order of the groups'
 * names; no word is the beginning of another, of a group's name or of a word that the tasks' lines are built
 * of, so that the first tokens of two words tell them apart. The order is part of the generator: another
 * order is another corpus. */
#include "data/source/synthetic_private.h"

const char *const weft_synthetic_group_names[WEFT_SYNTHETIC_GROUPS] = {
    "animal", "bird", "fruit", "clothes", "tool", "building", "worker", "vehicle"};

/* clang-format off */
const char *const weft_synthetic_words[256] = {
    /* animal */
    "horse", "rabbit", "turtle", "monkey", "tiger", "camel",
    "donkey", "badger", "beaver", "otter", "giraffe", "leopard",
    /* bird */
    "eagle", "sparrow", "falcon", "pigeon", "parrot", "raven",
    "ostrich", "penguin", "pelican", "heron", "goose", "swan",
    /* fruit */
    "apple", "lemon", "cherry", "banana", "mango", "peach",
    "melon", "grape", "apricot", "coconut", "olive", "pear",
    /* clothes */
    "jacket", "shirt", "bonnet", "slipper", "sweater", "glove",
    "scarf", "sandal", "apron", "blouse", "skirt", "trousers",
    /* tool */
    "hammer", "chisel", "shovel", "wrench", "drill", "mallet",
    "anvil", "trowel", "sickle", "scissors", "pliers", "ladder",
    /* building */
    "castle", "palace", "temple", "tower", "school", "church",
    "hospital", "factory", "stadium", "museum", "cottage", "library",
    /* worker */
    "doctor", "teacher", "farmer", "soldier", "captain", "sailor",
    "lawyer", "plumber", "butcher", "tailor", "dentist", "painter",
    /* vehicle */
    "wagon", "truck", "tractor", "bicycle", "carriage", "ferry",
    "canoe", "sled", "train", "yacht", "scooter", "rocket",
    /* of no group */
    "river", "stone", "cloud", "table", "garden", "window", "bridge", "candle",
    "forest", "mountain", "ocean", "paper", "pencil", "kitchen", "market", "engine",
    "needle", "button", "basket", "bottle", "mirror", "carpet", "pillow", "blanket",
    "anchor", "lagoon", "desert", "valley", "meadow", "thunder", "winter", "summer",
    "autumn", "spring", "morning", "evening", "shadow", "feather", "spider", "beetle",
    "butter", "cheese", "pepper", "sugar", "honey", "potato", "onion", "carrot",
    "tomato", "garlic", "coffee", "dinner", "supper", "cotton", "leather", "velvet",
    "ribbon", "collar", "pocket", "purse", "wallet", "ticket", "letter", "stamp",
    "parcel", "piano", "violin", "trumpet", "whistle", "drum", "guitar", "dancer",
    "singer", "student", "servant", "prince", "village", "harbor", "station", "prison",
    "bakery", "copper", "iron", "marble", "crystal", "diamond", "emerald", "bronze",
    "timber", "rubber", "plastic", "powder", "liquid", "vapor", "circle", "square",
    "corner", "border", "center", "number", "figure", "signal", "secret", "answer",
    "question", "reason", "purpose", "method", "country", "city", "street", "house",
    "door", "roof", "floor", "ceiling", "chimney", "cellar", "field", "fence",
    "flower", "grass", "leaf", "branch", "root", "seed", "storm", "snow",
    "rain", "frost", "fire", "smoke", "light", "night", "week", "month",
    "year", "minute", "music", "song", "story", "picture", "mother", "father",
    "brother", "sister", "uncle", "cousin", "friend", "child", "queen", "king",
    "army", "battle", "sword", "shield", "helmet", "arrow", "crown", "throne"};
/* clang-format on */
