//! What is guessed of files as they are met.

use std::path::{Path, PathBuf};

use super::{Asked, Guess, guess};

/// Files of a few rows; the guess, and its roles as `role=column`.
fn guessed(
    files: &[(&str, &str)],
    asked: &Asked,
) -> std::result::Result<(Guess, Vec<String>), String> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files
        .iter()
        .map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
    let guess = guess(&paths, asked).map_err(|error| error.to_string())?;
    let roles = guess
        .roles
        .iter()
        .map(|role| format!("{}={}", role.role, role.column));
    Ok((guess.clone(), roles.collect()))
}

const ASKED: fn() -> Asked = Asked::default;

/// Headers as they are met, with rows of their kind.
#[test]
fn realistic_headers_are_understood() {
    for (files, roles) in [
        // MovieLens
        (
            &[
                (
                    "ratings.csv",
                    "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,1029,3.0,1260759179\n2,31,4.0,1260759182\n",
                ),
                (
                    "movies.csv",
                    "movieId,title,genres\n31,Dangerous Minds (1995),Drama\n1029,Dumbo (1941),Animation|Children\n",
                ),
            ][..],
            &[
                "user=userId",
                "item=movieId",
                "time=timestamp",
                "id=movieId",
                "title=title",
                "categories=genres",
            ][..],
        ),
        // Amazon 2014
        (
            &[
                (
                    "reviews.jsonl",
                    "{\"reviewerID\": \"A1\", \"asin\": \"B1\", \"helpful\": [0, 0], \"overall\": 5.0, \"reviewTime\": \"07 23, 2014\", \"unixReviewTime\": 1406073600}\n{\"reviewerID\": \"A1\", \"asin\": \"B2\", \"overall\": 5.0, \"reviewTime\": \"07 24, 2014\", \"unixReviewTime\": 1406160000}\n",
                ),
                (
                    "meta.jsonl",
                    "{\"asin\": \"B1\", \"title\": \"Nail file\", \"brand\": \"OPI\", \"price\": 3.5}\n{\"asin\": \"B2\", \"title\": \"Polish\", \"price\": 4}\n",
                ),
            ],
            &[
                "user=reviewerID",
                "item=asin",
                "time=unixReviewTime",
                "id=asin",
                "title=title",
                "brand=brand",
                "price=price",
            ],
        ),
        // Amazon 2023: two names for an item, and the items' table tells which
        (
            &[
                (
                    "Beauty.jsonl",
                    "{\"rating\": 5.0, \"title\": \"Great\", \"text\": \"…\", \"images\": [], \"asin\": \"B1\", \"parent_asin\": \"P1\", \"user_id\": \"AG\", \"timestamp\": 1588687728923, \"verified_purchase\": true}\n{\"rating\": 1.0, \"title\": \"Meh\", \"asin\": \"B2\", \"parent_asin\": \"P1\", \"user_id\": \"AH\", \"timestamp\": 1588687728924}\n",
                ),
                (
                    "meta_Beauty.jsonl",
                    "{\"main_category\": \"All Beauty\", \"title\": \"Brush\", \"average_rating\": 4.5, \"features\": [], \"store\": \"Acme\", \"categories\": [], \"details\": {\"a\": \"b\"}, \"parent_asin\": \"P1\"}\n{\"main_category\": \"All Beauty\", \"title\": \"Comb\", \"average_rating\": 4.5, \"store\": \"Acme\", \"parent_asin\": \"P2\"}\n",
                ),
            ],
            &[
                "user=user_id",
                "item=parent_asin",
                "time=timestamp",
                "id=parent_asin",
                "title=title",
                "brand=store",
                "categories=categories",
                "description=features",
                "extra=main_category",
            ],
        ),
        // A shop's export: other names, dates, a semicolon
        (
            &[
                (
                    "orders.csv",
                    "Order No;Customer;SKU;Qty;Ordered At\n17;c1;s1;1;2024-05-01 10:00\n18;c2;s2;2;2024-05-02 11:30\n19;c1;s2;1;2024-05-03 12:00\n",
                ),
                (
                    "articles.csv",
                    "id;name;Category Path;colour;image_url\ns1;Shirt;Clothes > Shirts;red;http://x/1\ns2;Hat;Clothes > Hats;red;http://x/2\ns3;Cap;Clothes > Hats;blue;http://x/3\ns4;Tie;Clothes > Ties;blue;http://x/4\n",
                ),
            ],
            &[
                "user=Customer",
                "item=SKU",
                "time=Ordered At",
                "id=id",
                "title=name",
                "categories=Category Path",
                "extra=colour",
            ],
        ),
        // Last.fm: the file of items first
        (
            &[
                (
                    "artists.tsv",
                    "id\tname\turl\n1\tMoi dix Mois\thttp://x\n2\tDiary of Dreams\thttp://y\n",
                ),
                (
                    "user_artists.tsv",
                    "userID\tartistID\tweight\n2\t1\t13883\n2\t2\t11690\n3\t1\t11351\n",
                ),
            ],
            &["user=userID", "item=artistID", "id=id", "title=name"],
        ),
        // Order lines that say what the item is; the review of a line is not the item's
        (
            &[(
                "lines.csv",
                "customer_id,stock_code,product_name,comment,invoice_date\nc1,s1,Shirt,fine,2024-05-01\nc2,s2,Hat,bad,2024-05-01\nc2,s1,Shirt,too small,2024-05-02\nc1,s2,Hat,ok,2024-05-03\n",
            )],
            &[
                "user=customer_id",
                "item=stock_code",
                "time=invoice_date",
                "title=product_name",
            ],
        ),
        // Only one column is named; the other is the one left, and the time is told by what it holds
        (
            &[(
                "log.csv",
                "visitor,thing,when\na,x,1600000000\na,y,1600000001\nb,x,1600000002\nb,y,1600000003\n",
            )],
            &["user=visitor", "item=thing", "time=when"],
        ),
        // RecBole
        (
            &[
                (
                    "a.inter",
                    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t881250949\n1\t3\t4\t881250950\n",
                ),
                (
                    "a.item",
                    "item_id:token\tmovie_title:token_seq\tclass:token_seq\n2\tGolden Eye\tAction Thriller\n3\tFour Rooms\tThriller\n",
                ),
            ],
            &[
                "user=user_id",
                "item=item_id",
                "time=timestamp",
                "id=item_id",
                "title=movie_title",
                "categories=class",
            ],
        ),
    ] {
        let (_, found) = guessed(files, &ASKED()).unwrap();
        assert_eq!(found, roles, "{}", files[0].0);
    }
}

#[test]
fn separators_and_sources_are_told() {
    let files = [
        ("orders.csv", "user;sku\nc1;s1\nc2;s2\nc1;s2\n"),
        ("items.csv", "sku,path\ns1,a > b\ns2,a > c\n"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let paths = files.map(|(name, text)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    });
    let guess = guess(&paths, &ASKED()).unwrap();
    assert_eq!(
        (guess.columns.separator.as_str(), guess.text.as_slice()),
        (">", &["{categories}".to_owned()][..])
    );
    let source = guess.source(folder.path()).unwrap();
    let names: Vec<_> = source
        .files()
        .iter()
        .map(|f| (f.name.clone(), f.delimiter))
        .collect();
    assert_eq!(
        names,
        [
            ("orders.csv".to_owned(), Some(';')),
            ("items.csv".to_owned(), None)
        ]
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let source = guess.source(elsewhere.path()).unwrap();
    assert!(Path::new(&source.files()[0].name).is_absolute());
}

/// RecBole's form is of both files or of none; either of its files can stand beside another table.
#[test]
fn one_file_of_recbole_makes_a_table() {
    let inter = (
        "a.inter",
        "user_id:token\titem_id:token\nu\ti\nu\tj\nv\ti\n",
    );
    let item = (
        "a.item",
        "item_id:token\ttitle:token_seq\ni\tIce Cream\nj\tJam\n",
    );
    let log = ("log.csv", "user_id,item_id\nu,i\nu,j\nv,i\n");
    let items = ("items.csv", "item_id,title\ni,Ice Cream\nj,Jam\n");
    for (files, form) in [
        ([inter, item], "recbole"),
        ([inter, items], "table"),
        ([log, item], "table"),
        ([log, items], "table"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let paths = files.map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        });
        let source = guess(&paths, &ASKED())
            .unwrap()
            .source(folder.path())
            .unwrap();
        assert_eq!(source.format(), form, "{}, {}", files[0].0, files[1].0);
        let locate = |file: &crate::FileRef| {
            let path = paths.iter().find(|path| path.ends_with(&file.name));
            Ok::<_, crate::DataError>(path.unwrap().as_path())
        };
        let log = crate::read::read(&source, locate, &mut |_| {}).unwrap();
        assert_eq!(log.users, ["u", "v"]);
        assert_eq!(log.items[0].title.as_deref(), Some("Ice Cream"));
    }
}

#[test]
fn what_cannot_be_told_is_asked_with_what_there_is() {
    let plain = "a,b,c\nx,p,1600000000\ny,q,1600000001\nx,q,1600000002\n";
    let two = "user,sku,product_id\nu1,s1,17\nu1,s2,18\nu2,s1,17\n";
    let dated = "user,item,order_day\nu,i,10/29/2023\nu,j,11/24/2023\nv,i,9/13/2023\n";
    for (files, words) in [
        (
            &[("log.csv", plain)][..],
            &["--user COLUMN and --item COLUMN", "  a  x, y", "1600000000"][..],
        ),
        (
            &[("log.csv", two)],
            &["which column is the item", "--item COLUMN", "sku", "17, 18"],
        ),
        (
            &[(
                "log.csv",
                "user,item,date,time\nu,i,2024-05-01,1600000000\nu,j,2024-05-01,1600000000\n",
            )],
            &["--time COLUMN", "date", "time"],
        ),
        (
            &[(
                "log.csv",
                "user,item,date\nu,i,31.12.2023\nu,j,31.12.2023\n",
            )],
            &["31.12.2023", "2024-05-31", "--no-time"],
        ),
        (
            &[("log.csv", dated)],
            &[
                "`order_day` looks like dates",
                "10/29/2023",
                "2024-05-31",
                "--no-time",
            ],
        ),
        (
            &[("articles.csv", "sku,category\ns1,A\ns2,B\ns3,A\n")],
            &[
                "articles.csv: every row has another `sku`",
                "--user COLUMN",
                "category  A, B",
            ],
        ),
        (
            &[
                ("log.csv", "user,item\nu,i\nu,j\n"),
                ("items.csv", "a,b\n1,x\n2,y\n"),
            ],
            &["items.csv", "--id COLUMN"],
        ),
        (
            &[("x.csv", "a,b\n1,x\n2,y\n"), ("y.csv", "c,d\n1,x\n2,y\n")],
            &[
                "--interactions FILE",
                "x.csv:\n  a  1, 2",
                "y.csv:\n  c  1, 2",
            ],
        ),
        (
            &[
                ("x.csv", "user,item\n1,x\n"),
                ("y.csv", "id,d\n1,x\n"),
                ("z.csv", "c,d\n1,x\n"),
            ],
            &["z.csv", "third"],
        ),
    ] {
        let message = guessed(files, &ASKED()).unwrap_err();
        for word in words {
            assert!(message.contains(word), "`{word}` in: {message}");
        }
    }
    let asked = Asked {
        user: Some("a".to_owned()),
        item: Some("b".to_owned()),
        ..ASKED()
    };
    let (_, roles) = guessed(&[("log.csv", plain)], &asked).unwrap();
    assert_eq!(roles, ["user=a", "item=b", "time=c"]);
    let asked = Asked {
        no_time: true,
        ..ASKED()
    };
    let (_, roles) = guessed(&[("log.csv", dated)], &asked).unwrap();
    assert_eq!(roles, ["user=user", "item=item"]);
    let asked = Asked {
        item: Some("sku".to_owned()),
        no_time: true,
        text: vec!["colour".to_owned(), "sku_name".to_owned()],
        ..ASKED()
    };
    let items = "sku,sku_name,colour,words\ns1,Shirt,red,many\ns2,Hat,blue,words\n";
    let (guess, roles) = guessed(&[("log.csv", two), ("items.csv", items)], &asked).unwrap();
    assert_eq!(
        roles,
        [
            "user=user",
            "item=sku",
            "id=sku",
            "title=sku_name",
            "extra=colour"
        ]
    );
    assert_eq!(guess.text, ["{colour}", "{title}"]);
    for (text, words) in [
        (
            "keywords",
            "`keywords` (1, 2) cannot be a part of the text under this name",
        ),
        ("price", "`price` is no number: 1,284.99 (line 4)"),
    ] {
        let asked = Asked {
            item: Some("sku".to_owned()),
            text: vec![text.to_owned()],
            ..ASKED()
        };
        let items = "sku,keywords,price\ns1,1,N/A\ns2,2,29.99\ns3,1,\"1,284.99\"\n";
        let message = guessed(&[("log.csv", two), ("items.csv", items)], &asked).unwrap_err();
        assert!(message.contains(words), "{message}");
    }
    let asked = Asked {
        user: Some("nobody".to_owned()),
        ..ASKED()
    };
    let message = guessed(&[("log.csv", two)], &asked).unwrap_err();
    assert!(
        message.contains("--user nobody") && message.contains("product_id"),
        "{message}"
    );
}

/// Names of items are known by their words where no name of a column says so; codes, prices and dates have none.
#[test]
fn a_title_is_told_by_what_it_holds() {
    let log = "user,sku\nu1,s1\nu1,s2\nu2,s1\n";
    let items = "sku;Nr;Preis;Bezeichnung;Kategorie;Seit\n\
                 s1;A 10;EUR 1.284,99;Größe 40 Hut;Hüte;1.5.2024 10:00\n\
                 s2;A 11;EUR 270,99;Größe 42 Hut;Hüte;2.5.2024 10:00\n\
                 s3;A 12;EUR 29,99;Schal;Schals;3.5.2024 10:00\n\
                 s4;A 13;EUR 9,99;Socke;Schals;4.5.2024 10:00\n";
    let (guess, roles) = guessed(&[("log.csv", log), ("items.csv", items)], &ASKED()).unwrap();
    let expected = [
        "user=user",
        "item=sku",
        "id=sku",
        "title=Bezeichnung",
        "extra=Kategorie",
    ];
    assert_eq!(roles, expected);
    assert_eq!(guess.text, ["{title}", "{Kategorie}"]);
}
