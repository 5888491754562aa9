//! The terminal: drawn anew after each interval, left with `q`, Escape or Ctrl-C.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::ensure;
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
    ensure!(std::io::stdout().is_terminal(), "top wants a terminal: --once prints what one interval shows");
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
    // Names are longer than numbers.
    let widths =
        (0..table.columns.len()).map(|column| if column == 0 { Constraint::Fill(3) } else { Constraint::Fill(1) });
    let rows = table.rows.iter().map(|row| Row::new(row.iter().map(String::as_str)));
    let head = Row::new(table.columns.iter().copied()).style(Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(Widget::new(rows, widths).header(head).block(Block::bordered().title(table.title)), place);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

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
}
