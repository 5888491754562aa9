//! The terminal: drawn anew after each interval, left with `q`, Escape or Ctrl-C.

use std::io::IsTerminal;
use std::time::Duration;

use nearside_lab::usage;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::widgets::{Block, Row, Table as Widget};
use ratatui::{Frame, text::Line};
use tokio::time::sleep;

use super::Watch;
use super::view::Table;

/// How often keys are looked for.
const KEYS_EVERY: Duration = Duration::from_millis(50);

/// Shows what is watched until the person has seen enough.
pub(crate) async fn run(watch: &mut Watch, interval: Duration) -> anyhow::Result<()> {
    if !std::io::stdout().is_terminal() {
        return Err(usage!("top needs a terminal: --once prints what one interval shows"));
    }
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, watch, interval).await;
    ratatui::restore();
    shown
}

async fn show(terminal: &mut DefaultTerminal, watch: &mut Watch, interval: Duration) -> anyhow::Result<()> {
    let title = watch.title();
    let mut tables = Vec::new();
    loop {
        terminal.draw(|frame| draw(frame, &title, &tables))?;
        let mut waited = Duration::ZERO;
        while waited < interval {
            if is_left()? {
                return Ok(());
            }
            sleep(KEYS_EVERY).await;
            waited += KEYS_EVERY;
        }
        // A node that does not answer must not keep anybody from leaving.
        let look = watch.look();
        tokio::pin!(look);
        tables = loop {
            tokio::select! {
                seen = &mut look => break seen,
                () = sleep(KEYS_EVERY) => if is_left()? { return Ok(()) },
            }
        };
    }
}

/// Whether a key was pressed that ends it.
fn is_left() -> anyhow::Result<bool> {
    while event::poll(Duration::ZERO)? {
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let interrupts = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
            if interrupts || [KeyCode::Char('q'), KeyCode::Esc].contains(&key.code) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The nodes above, the other tables below in two columns.
fn draw(frame: &mut Frame<'_>, title: &str, tables: &[Table]) {
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(frame.area());
    frame.render_widget(Line::from(format!("{title}   (q ends)")), head);
    let [nodes, verdicts, reasons, hops, keys] = tables else {
        frame.render_widget(Line::from("counting …"), body);
        return;
    };
    let height =
        |table: &Table| Constraint::Length(u16::try_from(table.rows.len()).unwrap_or(u16::MAX).saturating_add(3));
    let [above, below] = Layout::vertical([height(nodes), Constraint::Fill(1)]).areas(body);
    let [left, right] = Layout::horizontal([Constraint::Percentage(40), Constraint::Percentage(60)]).areas(below);
    let [at_verdicts, at_reasons] = Layout::vertical([height(verdicts), Constraint::Fill(1)]).areas(left);
    let [at_hops, at_keys] = Layout::vertical([height(hops), Constraint::Fill(1)]).areas(right);
    let places = [(nodes, above), (verdicts, at_verdicts), (reasons, at_reasons), (hops, at_hops), (keys, at_keys)];
    for (table, place) in places {
        draw_table(frame, table, place);
    }
}

fn draw_table(frame: &mut Frame<'_>, table: &Table, place: Rect) {
    let widths = widths(table, place.width.saturating_sub(2));
    let shown = widths.len();
    let rows = table.rows.iter().map(|row| Row::new(row.iter().take(shown).map(String::as_str)));
    let head = Row::new(table.columns.iter().copied().take(shown)).style(Style::new().add_modifier(Modifier::DIM));
    let widths = widths.into_iter().enumerate().map(|(column, width)| match column {
        // Names take what is left.
        0 => Constraint::Fill(1),
        _ => Constraint::Length(width),
    });
    frame.render_widget(Widget::new(rows, widths).header(head).block(Block::bordered().title(table.title)), place);
}

/// The widths of the columns that fit beside one another, so that headings and numbers are whole: the last columns are left out where
/// there is no room. Names, in the first column, may be cut.
fn widths(table: &Table, room: u16) -> Vec<u16> {
    const NAME_MIN: u16 = 12;
    let wide = |text: &str| u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
    let mut widths = Vec::new();
    let mut taken = 0_u16;
    for (column, head) in table.columns.iter().enumerate() {
        let cells = table.rows.iter().filter_map(|row| row.get(column)).map(|cell| wide(cell)).max().unwrap_or(0);
        let width = if column == 0 { cells.min(NAME_MIN) } else { cells }.max(wide(head));
        let gap = u16::from(column > 0);
        taken = taken.saturating_add(gap).saturating_add(width);
        if column > 0 && taken > room {
            break;
        }
        widths.push(width);
    }
    widths
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::sample::Sample;
    use crate::top::view::{Seen, tables};

    #[test]
    fn all_tables_are_on_the_screen_however_small_it_is() {
        let table = |title, columns, cell: &str| Table { title, columns, rows: vec![vec![cell.to_owned(); 2]] };
        let tables = [
            table("nodes", &["node", "requests/s"], "edge-nrt"),
            table("verdicts", &["cache", "requests/s"], "hit"),
            table("reasons", &["reason", "requests/s"], "uri-miss"),
            table("next hops", &["next hop", "in use"], "shield-fra"),
            table("most asked for", &["url", "requests/s"], "http://a.org/"),
        ];
        let drawn = |width, height| {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, "nearside top", &tables)).unwrap();
            terminal.backend().to_string()
        };
        let screen = drawn(120, 30);
        for text in ["nearside top", "nodes", "edge-nrt", "hit", "uri-miss", "shield-fra", "http://a.org/"] {
            assert!(screen.contains(text), "{text} in {screen}");
        }
        for size in [(1, 1), (20, 5), (400, 100)] {
            drawn(size.0, size.1);
        }
    }

    #[test]
    fn headings_are_whole_or_left_out() {
        let tables = tables(
            &[Seen { name: "edge-frankfurt-1".to_owned(), counted: Some(Sample::default()) }],
            &[("http://www.example.com/a/path/that/is/longer/than/its/column".to_owned(), 5)],
            Duration::from_secs(1),
        );
        for width in [40, 60, 80, 100, 120, 200] {
            let mut terminal = Terminal::new(TestBackend::new(width, 40)).unwrap();
            terminal.draw(|frame| draw(frame, "nearside top", &tables)).unwrap();
            let screen = terminal.backend().to_string();
            for (part, whole) in
                [("reques", "requests/s"), ("in f", "in flight"), ("obj", "objects"), ("und", "under way")]
            {
                assert_eq!(screen.matches(part).count(), screen.matches(whole).count(), "{width}: {part}: {screen}");
            }
            if width >= 80 {
                for heading in tables[0].columns {
                    assert!(screen.contains(heading), "{width}: {heading}: {screen}");
                }
            }
        }
    }
}
