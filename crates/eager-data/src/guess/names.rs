//! What columns are called. Names are compared by their letters and digits alone, in lower case: `User ID`, `user_id` and
//! `userId` are one.

use super::sample::{Column, Content};

/// Names of one role, best first.
pub(super) struct Names {
    /// The role and nothing else.
    exact: &'static [&'static str],
    /// It, but there may be a better one.
    second: &'static [&'static str],
    /// Parts of names that make one likely.
    parts: &'static [&'static str],
}

impl Names {
    /// 0 for a name that says it, 1 for a second choice, 2 for one that only has a telling part; `None` for any other.
    pub(super) fn tier(&self, name: &str) -> Option<usize> {
        let name = plain(name);
        let tiers = [self.exact.contains(&&*name), self.second.contains(&&*name)];
        let part = self.parts.iter().any(|part| name.contains(part));
        tiers.iter().position(|&holds| holds).or(part.then_some(2))
    }

    /// The place of a name in the lists: of two, the lower one is wanted.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        let name = plain(name);
        let all = self.exact.iter().chain(self.second);
        let known = all.clone().position(|known| *known == name);
        let part = || self.parts.iter().position(|part| name.contains(part));
        known.or_else(|| Some(all.count() + part()?))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tier(name).is_some()
    }
}

fn plain(name: &str) -> String {
    let name = name.chars().filter(|c| c.is_alphanumeric());
    name.flat_map(char::to_lowercase).collect()
}

pub(super) const USER: Names = Names {
    exact: &[
        "user",
        "userid",
        "uid",
        "reviewer",
        "reviewerid",
        "customer",
        "customerid",
        "customerno",
        "client",
        "clientid",
        "member",
        "memberid",
        "account",
        "accountid",
        "buyer",
        "buyerid",
        "person",
        "personid",
        "shopper",
        "shopperid",
        "reader",
        "readerid",
        "listener",
        "listenerid",
        "player",
        "playerid",
        "authorid",
        "profileid",
    ],
    second: &[
        "visitor",
        "visitorid",
        "session",
        "sessionid",
        "username",
        "useremail",
        "email",
        "customeremail",
        "device",
        "deviceid",
        "cookie",
        "cookieid",
        "basket",
        "basketid",
    ],
    parts: &[
        "user", "customer", "reviewer", "visitor", "member", "buyer", "session",
    ],
};

pub(super) const ITEM: Names = Names {
    exact: &[
        "item",
        "itemid",
        "iid",
        "itemno",
        "itemcode",
        "asin",
        "parentasin",
        "product",
        "productid",
        "productcode",
        "productno",
        "sku",
        "stockcode",
        "article",
        "articleid",
        "articleno",
        "movie",
        "movieid",
        "film",
        "filmid",
        "book",
        "bookid",
        "isbn",
        "isbn13",
        "track",
        "trackid",
        "song",
        "songid",
        "business",
        "businessid",
        "game",
        "gameid",
        "appid",
        "goods",
        "goodsid",
        "news",
        "newsid",
        "contentid",
        "video",
        "videoid",
        "ean",
        "gtin",
        "recipe",
        "recipeid",
        "venue",
        "venueid",
        "place",
        "placeid",
        "poi",
        "poiid",
        "listing",
        "listingid",
        "course",
        "courseid",
        "beerid",
        "animeid",
        "jobid",
        "gmapid",
    ],
    second: &[
        "artist",
        "artistid",
        "document",
        "documentid",
        "docid",
        "url",
        "offerid",
        "variantid",
        "entityid",
    ],
    parts: &["item", "product", "article", "movie", "asin", "sku"],
};

/// Of a table of items.
pub(super) const ID: Names = Names {
    exact: ITEM.exact,
    second: &[
        "id",
        "key",
        "code",
        "number",
        "no",
        "ref",
        "artistid",
        "documentid",
        "docid",
        "offerid",
        "variantid",
    ],
    parts: &["id"],
};

pub(super) const TIME: Names = Names {
    exact: &[
        "timestamp",
        "unixreviewtime",
        "unixtime",
        "time",
        "datetime",
        "ts",
        "date",
        "eventtime",
        "eventtimestamp",
        "createdat",
        "created",
        "orderedat",
        "orderdate",
        "ordertime",
        "purchasedate",
        "purchasedat",
        "reviewtime",
        "reviewdate",
        "ratedat",
        "listenedat",
        "playedat",
        "viewedat",
        "clickedat",
        "starttime",
        "startedat",
        "invoicedate",
        "day",
        "submissiondate",
        "timems",
    ],
    second: &[],
    parts: &["time", "date", "stamp"],
};

/// Neither an id nor a description.
pub(super) const OTHER: Names = Names {
    exact: &[
        "rating",
        "ratings",
        "overall",
        "score",
        "stars",
        "quantity",
        "qty",
        "count",
        "amount",
        "price",
        "event",
        "eventtype",
        "action",
        "type",
        "verified",
        "vote",
        "votes",
        "helpful",
        "weekday",
        "index",
        "row",
    ],
    second: &[],
    parts: &[
        "rating",
        "price",
        "quantity",
        "count",
        "url",
        "image",
        "imurl",
        "thumbnail",
        "http",
        "status",
    ],
};

/// Whether a column can play a part.
type Fits = fn(&Column) -> bool;

/// What may be said of an item, in the order of its text: the manifest's name, names of columns, and what the column must
/// hold.
pub(super) const ABOUT: &[(&str, Names, Fits)] = &[
    (
        "title",
        Names {
            exact: &["title", "name"],
            second: &[
                "itemtitle",
                "itemname",
                "producttitle",
                "productname",
                "articlename",
                "movietitle",
                "booktitle",
                "songtitle",
                "songname",
                "trackname",
                "coursename",
                "businessname",
                "headline",
                "label",
                "displayname",
            ],
            parts: &["title", "name"],
        },
        |c| matches!(c.content, Content::Text | Content::Lists),
    ),
    (
        "brand",
        Names {
            exact: &[
                "brand",
                "manufacturer",
                "maker",
                "vendor",
                "brandname",
                "store",
            ],
            second: &[],
            parts: &["brand"],
        },
        |c| c.content == Content::Text,
    ),
    (
        "categories",
        Names {
            exact: &[
                "categories",
                "category",
                "genres",
                "genre",
                "categorypath",
                "path",
                "class",
                "maincategory",
            ],
            second: &[
                "departments",
                "department",
                "topics",
                "topic",
                "producttype",
                "subcategory",
                "section",
                "style",
            ],
            parts: &["categor", "genre"],
        },
        |c| matches!(c.content, Content::Text | Content::Lists),
    ),
    (
        "description",
        Names {
            exact: &[
                "description",
                "desc",
                "abstract",
                "summary",
                "overview",
                "plot",
                "synopsis",
                "about",
            ],
            second: &[
                "text",
                "body",
                "content",
                "features",
                "longdescription",
                "shortdescription",
            ],
            parts: &["descri"],
        },
        |c| matches!(c.content, Content::Text | Content::Lists),
    ),
    (
        "keywords",
        Names {
            exact: &["keywords", "tags", "keyword", "tag"],
            second: &[],
            parts: &[],
        },
        |c| matches!(c.content, Content::Text | Content::Lists),
    ),
    (
        "price",
        Names {
            exact: &["price", "unitprice", "listprice", "saleprice", "cost"],
            second: &[],
            parts: &[],
        },
        |c| matches!(c.content, Content::Whole | Content::Number),
    ),
];
