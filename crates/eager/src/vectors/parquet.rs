//! Vectors in a Parquet table: an id and a list of floats a row.

use std::fs::File;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use eager_codes::ItemVectors;
use eager_data::read_id_column;
use parquet::basic::{ConvertedType, Type as Physical};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};

/// Names of the column of ids, best first.
const IDS: [&str; 8] = [
    "id",
    "item_id",
    "item",
    "itemId",
    "asin",
    "parent_asin",
    "product_id",
    "sku",
];

pub(super) fn read(path: &Path) -> Result<(Vec<String>, ItemVectors)> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let schema = reader.metadata().file_metadata().schema().clone();
    let (id, vector) = columns(schema.get_fields())?;
    // As those of the items that they are joined with; this also refuses the types that the row reader panics on.
    let ids = read_id_column(path, id.name())?;
    // The row reader decodes the vectors alone.
    let projection = Type::group_type_builder(schema.name())
        .with_fields(vec![vector.clone()])
        .build()?;
    let (mut data, mut dim) = (Vec::new(), 0);
    for (row, found) in reader.get_row_iter(Some(projection))?.enumerate() {
        let (found, row) = (found?, row + 1);
        let before = data.len();
        let Some((_, Field::ListInternal(list))) = found.get_column_iter().next() else {
            bail!("row {row}: no vector");
        };
        for value in list.elements() {
            data.push(match value {
                Field::Float(x) => *x,
                Field::Double(x) => *x as f32,
                other => bail!("row {row}: `{other}` among the numbers"),
            });
        }
        let width = data.len() - before;
        dim = if row == 1 { width } else { dim };
        ensure!(
            width == dim,
            "row {row}: {width} values, where the rows above have {dim}"
        );
    }
    Ok((ids, ItemVectors { dim, data }))
}

/// The column of ids and that of vectors.
fn columns(fields: &[TypePtr]) -> Result<(&TypePtr, &TypePtr)> {
    let lists: Vec<&TypePtr> = fields.iter().filter(|field| is_vector(field)).collect();
    let [vector] = lists.as_slice() else {
        bail!("{} columns of lists of floats, expected one", lists.len());
    };
    let plain = |field: &&TypePtr| {
        let whole = [Physical::BYTE_ARRAY, Physical::INT32, Physical::INT64];
        field.is_primitive() && whole.contains(&field.get_physical_type())
    };
    let ids: Vec<&TypePtr> = fields.iter().filter(plain).collect();
    // Whatever its type: one that cannot be read is to be told, not passed over for another column.
    let named = IDS.iter().find_map(|name| {
        let called = |field: &&TypePtr| field.is_primitive() && field.name() == *name;
        fields.iter().find(called)
    });
    let id = match (named, ids.as_slice()) {
        (Some(named), _) => named,
        (None, [only]) => *only,
        _ => bail!("no column `id` or `item_id`, nor exactly one of texts or whole numbers"),
    };
    Ok((id, vector))
}

/// `group x (LIST) { repeated group list { float element } }`
fn is_vector(field: &TypePtr) -> bool {
    let is_list = field.get_basic_info().converted_type() == ConvertedType::LIST;
    let inner = |group: &Type| match group.is_group() {
        true => group
            .get_fields()
            .first()
            .cloned()
            .filter(|_| group.get_fields().len() == 1),
        false => None,
    };
    let element = inner(field).and_then(|list| inner(&list));
    is_list
        && element.is_some_and(|element| {
            element.is_primitive()
                && matches!(
                    element.get_physical_type(),
                    Physical::FLOAT | Physical::DOUBLE
                )
        })
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    pub(in super::super) fn write(path: &Path, ids: &[&str], vectors: &[&[f32]]) {
        let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes()).collect();
        write_as("binary item_id (UTF8)", path, &ids, vectors);
    }

    /// `id` is the column of ids in the schema.
    pub(in super::super) fn write_as(id: &str, path: &Path, ids: &[&[u8]], vectors: &[&[f32]]) {
        let schema = format!(
            "message m {{ required binary note (UTF8); required {id};
            required group vector (LIST) {{ repeated group list {{ required float element; }} }} }}"
        );
        let schema = Arc::new(parse_message_type(&schema).unwrap());
        let mut writer =
            SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let texts: Vec<ByteArray> = ids.iter().map(|id| (*id).into()).collect();
        for _ in 0..2 {
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<ByteArrayType>()
                .write_batch(&texts, None, None)
                .unwrap();
            column.close().unwrap();
        }
        let values = vectors.concat();
        let repetition: Vec<i16> = vectors
            .iter()
            .flat_map(|v| (0..v.len()).map(|i| i16::from(i > 0)))
            .collect();
        let mut column = group.next_column().unwrap().unwrap();
        let definition = vec![1; values.len()];
        column
            .typed::<FloatType>()
            .write_batch(&values, Some(&definition), Some(&repetition))
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn columns_are_told_by_name_and_type() {
        let vector = "group vector (LIST) { repeated group list { required float element; } }";
        let map = "group map (MAP) { repeated group key_value { required float key; } }";
        for (id, name) in [
            ("fixed_len_byte_array(16) id (UUID)", "id"),
            ("binary sku", "sku"),
            ("boolean flag", "note"),
        ] {
            let schema = format!(
                "message m {{ required binary note (UTF8); required {map} required {id}; required {vector} }}"
            );
            let schema = parse_message_type(&schema).unwrap();
            let (id, vector) = columns(schema.get_fields()).unwrap();
            assert_eq!((id.name(), vector.name()), (name, "vector"));
        }
    }
}
