//! Vectors in a Parquet table: an id and a list of floats a row.

use std::fs::File;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use eager_codes::ItemVectors;
use parquet::basic::Type as Physical;
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
    // The row reader decodes these two alone.
    let in_order = schema
        .get_fields()
        .iter()
        .filter(|field| [id.name(), vector.name()].contains(&field.name()));
    let first_is_id = in_order
        .clone()
        .next()
        .is_some_and(|field| field.name() == id.name());
    let projection = Type::group_type_builder(schema.name())
        .with_fields(in_order.cloned().collect())
        .build()?;
    let (mut ids, mut data, mut dim) = (Vec::new(), Vec::new(), 0);
    for (row, found) in reader.get_row_iter(Some(projection))?.enumerate() {
        let (found, row) = (found?, row + 1);
        let mut fields = found.get_column_iter().map(|(_, field)| field);
        let (Some(a), Some(b)) = (fields.next(), fields.next()) else {
            bail!("row {row}: no id or no vector");
        };
        let (id, vector) = if first_is_id { (a, b) } else { (b, a) };
        ids.push(match id {
            Field::Str(text) => text.clone(),
            Field::Null => bail!("row {row}: no id"),
            number => number.to_string(),
        });
        let before = data.len();
        let Field::ListInternal(list) = vector else {
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
    let named = IDS
        .iter()
        .find_map(|name| ids.iter().find(|field| field.name() == *name));
    let id = match (named, ids.as_slice()) {
        (Some(named), _) => named,
        (None, [only]) => only,
        _ => bail!("no column `id` or `item_id`, nor exactly one of texts or whole numbers"),
    };
    Ok((id, vector))
}

/// `group x (LIST) { repeated group list { float element } }`
fn is_vector(field: &TypePtr) -> bool {
    let inner = |group: &Type| match group.is_group() {
        true => group
            .get_fields()
            .first()
            .cloned()
            .filter(|_| group.get_fields().len() == 1),
        false => None,
    };
    let element = inner(field).and_then(|list| inner(&list));
    element.is_some_and(|element| {
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
        let schema = "message m { required binary note (UTF8); required binary item_id (UTF8);
            required group vector (LIST) { repeated group list { required float element; } } }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
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
}
