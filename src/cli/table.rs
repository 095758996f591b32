//! Tables: the columns of a kind of rows, the columns that a command shows, and how they fit a terminal.

use std::io::{self, IsTerminal};
use std::marker::PhantomData;

use clap::Args;
use clap::builder::PossibleValuesParser;
use comfy_table::{ColumnConstraint, Table, Width, presets};
use prost::Message;

use super::Failure;
use super::document::Document;
use super::print::{ListOutput, coloured, note, print};

/// The columns of a terminal that does not say how many it has.
const DEFAULT_WIDTH: usize = 80;
/// No column is cut further.
const MIN_WIDTH: usize = 8;
const GAP: usize = 2;

/// Something that tables list.
pub(super) trait Row: Sized + 'static {
    /// All columns, in the order of the table: a name first, an id last.
    const COLUMNS: &'static [Column<Self>];

    /// The expiry that colours the row, in milliseconds since 1970.
    fn expiry(&self) -> Option<i64> {
        None
    }
}

/// A column.
pub(super) struct Column<T> {
    /// The name for `--columns`. The header is the same in capitals.
    name: &'static str,
    cell: fn(&T) -> String,
    may_be_cut: bool,
    is_shown: bool,
}

impl<T> Column<T> {
    /// A column that is never cut. `cell` gives its text, without misleading characters.
    pub(super) const fn new(name: &'static str, cell: fn(&T) -> String) -> Self {
        Self {
            name,
            cell,
            may_be_cut: false,
            is_shown: true,
        }
    }

    /// A column whose texts are cut if the row is too long for the terminal.
    pub(super) const fn text(name: &'static str, cell: fn(&T) -> String) -> Self {
        Self {
            may_be_cut: true,
            ..Self::new(name, cell)
        }
    }

    /// A column that only `--columns` shows.
    pub(super) const fn extra(name: &'static str, cell: fn(&T) -> String) -> Self {
        Self {
            is_shown: false,
            ..Self::text(name, cell)
        }
    }

    fn header(&self) -> String {
        self.name.to_uppercase().replace('-', " ")
    }
}

/// Arguments of a command that prints a list.
#[derive(Args)]
pub(super) struct TableArgs<T: Row> {
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: ListOutput,
    /// Columns of the table, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = names::<T>())]
    columns: Vec<String>,
    #[arg(skip)]
    rows: PhantomData<fn() -> T>,
}

fn names<T: Row>() -> PossibleValuesParser {
    PossibleValuesParser::new(T::COLUMNS.iter().map(|column| column.name))
}

impl<T: Row> TableArgs<T> {
    /// Prints the answer as a document, or its rows as a table. `noun` says what there is none of.
    pub(super) fn print(&self, name: &str, answer: &impl Message, noun: &str, rows: &[T]) -> Result<(), Failure> {
        match self.document()? {
            Some(document) => document.print(name, answer),
            None => self.table(noun, rows),
        }
    }

    /// The format of the document. `None`: a table.
    pub(super) fn document(&self) -> Result<Option<Document>, Failure> {
        match self.output.document() {
            Some(_) if !self.columns.is_empty() => Err(Failure::usage(
                "--columns is for tables: leave it out, or leave out --output",
            )),
            document => Ok(document),
        }
    }

    pub(super) fn table(&self, noun: &str, rows: &[T]) -> Result<(), Failure> {
        let named = |name: &String| T::COLUMNS.iter().find(|column| column.name == name);
        let columns: Vec<_> = self.columns.iter().filter_map(named).collect();
        match columns.as_slice() {
            [] => show(noun, rows),
            columns => show_columns(noun, rows, columns),
        }
    }
}

/// Prints rows as a table.
pub(super) fn show<T: Row>(noun: &str, rows: &[T]) -> Result<(), Failure> {
    show_columns(noun, rows, &usual::<T>())
}

fn usual<T: Row>() -> Vec<&'static Column<T>> {
    T::COLUMNS.iter().filter(|column| column.is_shown).collect()
}

fn show_columns<T: Row>(noun: &str, rows: &[T], columns: &[&'static Column<T>]) -> Result<(), Failure> {
    if rows.is_empty() {
        note(&format!("no {noun}"));
        return Ok(());
    }
    let mut lines = lines(rows, columns, terminal_width());
    for (line, row) in lines.iter_mut().skip(1).zip(rows) {
        if let Some(expiry) = row.expiry() {
            *line = coloured(line, expiry);
        }
    }
    print(&(lines.join("\n") + "\n"))
}

/// The width of standard output. `None`: it is no terminal, so nothing is cut.
fn terminal_width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    Some(columns.unwrap_or(DEFAULT_WIDTH))
}

/// The header, and a line for each row.
fn lines<T: Row>(rows: &[T], columns: &[&'static Column<T>], width: Option<usize>) -> Vec<String> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_truncation_indicator("…");
    table.set_header(columns.iter().map(|column| column.header()));
    for row in rows {
        let mut cells = comfy_table::Row::from(columns.iter().map(|column| (column.cell)(row)));
        cells.max_height(1);
        table.add_row(cells);
    }
    let widths = table.column_max_content_widths();
    let mut widths: Vec<_> = widths.into_iter().map(usize::from).collect();
    if let Some(width) = width {
        fit(&mut widths, columns, width);
    }
    let last = columns.len() - 1;
    for (index, column) in table.column_iter_mut().enumerate() {
        let gap = if index < last { GAP } else { 0 };
        let width = u16::try_from(widths[index] + gap).unwrap_or(u16::MAX);
        column
            .set_padding((0, gap as u16))
            .set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Cuts the widest columns that may be cut until a row has at most `width` characters.
fn fit<T>(widths: &mut [usize], columns: &[&'static Column<T>], width: usize) {
    let gaps = GAP * (columns.len() - 1);
    while widths.iter().sum::<usize>() + gaps > width {
        let may_be_cut = |index: &usize| columns[*index].may_be_cut && widths[*index] > MIN_WIDTH;
        let widest = (0..columns.len()).filter(may_be_cut).max_by_key(|index| widths[*index]);
        let Some(widest) = widest else { return };
        widths[widest] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::ListedContext;
    use crate::cli::contexts::Context;
    use crate::cli::keyring::{ListedReplica, ListedRingKey};
    use crate::cli::quota::ListedQuota;
    use crate::grpc::pb;

    const ID: &str = "1234567890123456_19ad1f0c3a2_-2147483648_-2147483648";
    const KEY: &str = "ck5f0e1d2c3b4a59687786";

    /// The lines of a row on a terminal of 80 columns.
    fn shown<T: Row>(row: T) -> Vec<String> {
        let lines = lines(&[row], &usual::<T>(), Some(80));
        let widest = lines.iter().map(|line| line.chars().count()).max().unwrap();
        assert!((40..=80).contains(&widest), "{widest}: {lines:?}");
        lines
    }

    #[test]
    fn the_widest_rows_fit_80_columns_with_their_ids_whole() {
        let long = || "x".repeat(100);
        let time = Some(prost_types::Timestamp {
            seconds: 4_000_000_000,
            nanos: 0,
        });
        let certificate = shown(pb::ServerCertificate {
            server_certificate_id: ID.into(),
            server_certificate_name: long(),
            expire_time_stamp: -1,
            ..Default::default()
        });
        assert_eq!(certificate[0], "NAME        EXPIRES         ID");
        assert!(
            certificate[1].starts_with("xxxxxxxxx…  2") && certificate[1].ends_with(ID),
            "{certificate:?}"
        );
        let version = shown(pb::ServerCertificateVersion {
            version: 1000,
            rolled_back_to: 999,
            begin_time: time,
            end_time: time,
            not_after: time,
            principal: KEY.into(),
            ..Default::default()
        });
        assert!(
            version[0].starts_with("VERSION ") && version[0].ends_with("  BY"),
            "{version:?}"
        );
        let lease = shown(pb::Lease {
            server_certificate_id: ID.into(),
            holder: long(),
            served_version: 1000,
            sent_version: 1000,
            ..Default::default()
        });
        assert!(lease[1].ends_with(ID), "{lease:?}");
        let tag = shown(pb::TagResource {
            resource_id: ID.into(),
            tag_key: long(),
            tag_value: long(),
            ..Default::default()
        });
        assert!(tag[1].ends_with(ID), "{tag:?}");
        let key = shown(pb::AccessKey {
            access_key_id: KEY.into(),
            description: long(),
            role: pb::Role::Consumer.into(),
            disabled: true,
            expire_time: time,
            last_use: Some(pb::AccessKeyUse {
                use_time: time,
                ..Default::default()
            }),
            ..Default::default()
        });
        assert!(key[0].starts_with("DESCRIPTION ") && key[1].ends_with(KEY), "{key:?}");
        let account = shown(pb::Account {
            account_id: "1234567890123456".into(),
            name: long(),
            server_certificate_count: 1_000_000,
            create_time: time,
            ..Default::default()
        });
        assert!(account[1].ends_with("  1234567890123456"), "{account:?}");
        shown(pb::ClientIdentity {
            value: long(),
            kind: pb::ClientIdentityKind::SpiffeId.into(),
            role: pb::Role::Consumer.into(),
            account_id: "1234567890123456".into(),
            scope: Some(pb::Scope {
                name_prefixes: vec![long()],
                ..Default::default()
            }),
            ..Default::default()
        });
        shown(pb::ResourceGroup {
            resource_group_id: format!("rg-{}", "a".repeat(32)),
            name: long(),
        });
        shown(pb::Region {
            region_id: "cn-hangzhou-acdr-ut-3".into(),
            local_name: long(),
            ..Default::default()
        });
        shown(ListedQuota {
            quota: pb::Quota {
                kind: pb::QuotaKind::CallsPerSecondPerKey.into(),
                maximum: 1_000_000_000,
                overridden: true,
                ..Default::default()
            },
            region: long(),
            used: Some(1_000_000_000),
        });
        shown(ListedRingKey {
            key: pb::KeyEncryptionKey {
                key_encryption_key_id: "0f1e2d3c4b5a6978".into(),
                state: pb::KeyEncryptionKeyState::Prepared.into(),
                first_seen_time: time,
                sealing_time: time,
                retire_time: time,
            },
            having: 10,
            replicas: 10,
        });
        shown(ListedReplica {
            replica: pb::Replica {
                replica_id: "01234567-89ab-cdef-0123-456789abcdef".into(),
                host: long(),
                version: "0.1.0".into(),
                sealing_key_encryption_key_ids: vec![long()],
                ..Default::default()
            },
            lacking: vec![long()],
        });
        shown(ListedContext {
            is_current: true,
            name: long(),
            context: Context {
                endpoint: long(),
                access_key_file: Some(long().into()),
                client_certificate: None,
                danger_plaintext: false,
                ca_file: None,
                region: Some(long()),
            },
        });
    }

    #[test]
    fn nothing_is_cut_where_there_is_no_terminal_or_enough_room() {
        let group = || pb::ResourceGroup {
            resource_group_id: "rg-1".into(),
            name: "x".repeat(100),
        };
        for width in [None, Some(106)] {
            let shown = lines(&[group()], &usual::<pb::ResourceGroup>(), width);
            assert_eq!(shown[1], format!("{}  rg-1", "x".repeat(100)), "{width:?}");
        }
    }
}
