//! Descriptors of .proto files, ours and Debian's, by full name.
#![allow(dead_code)] // each test file uses a part

use std::{collections::BTreeMap, path::Path};

use protox::prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

/// Our own files.
pub(crate) const OURS: [(&str, &str); 2] = [("v3.proto", "apipb"), ("v4.proto", "api")];

/// The folder of our own files.
pub(crate) fn our_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/proto"))
}

/// Everything `file` in `folder` defines and imports.
pub(crate) fn pool(folder: &Path, file: &str) -> DescriptorPool {
    let set = protox::compile([file], [folder]).unwrap_or_else(|e| panic!("{}/{file}: {e}", folder.display()));
    DescriptorPool::from_file_descriptor_set(set).unwrap()
}

/// The messages of a package, nested ones too, by name without the package.
pub(crate) fn messages(pool: &DescriptorPool, package: &str) -> BTreeMap<String, MessageDescriptor> {
    pool.all_messages()
        .filter(|m| m.package_name() == package)
        .map(|m| (m.full_name()[package.len() + 1..].to_owned(), m))
        .collect()
}

/// What a field is on the wire; enums and messages by the name of their type when `named`.
pub(crate) fn shape(field: &FieldDescriptor, package: &str, named: bool) -> String {
    let short = |name: &str| name.strip_prefix(package).unwrap_or(name).to_owned();
    let kind = match field.kind() {
        Kind::Message(m) => short(m.full_name()),
        Kind::Enum(e) if named => short(e.full_name()),
        Kind::Enum(_) => "enum".to_owned(),
        scalar => format!("{scalar:?}"),
    };
    let oneof = field.containing_oneof().map(|o| o.name().to_owned());
    format!("{} {:?} {kind} in {oneof:?}", field.number(), field.cardinality())
}
