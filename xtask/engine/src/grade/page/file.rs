//! Where the page of a hand-in lies, and its text. Whoever wrote it may have laid traps: links, pipes, files without end.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use machine::exit::BadInput;

/// What the page is called, in any case.
const NAME: &str = "statefulset.md";
/// A folder of documents, where it may lie as well.
const DOCS: &str = "docs";
/// The folders above the chart that are looked into.
const ABOVE: usize = 3;
/// The most that is read; a person would not read more either.
const MOST_BYTES: u64 = 1 << 20;

/// What was found of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The page.
    Text { path: PathBuf, text: String },
    /// It is there, and is not read.
    Refused { path: PathBuf, why: String },
    /// There is none.
    Nothing,
}

/// The page that the command line names, or the one beside the chart. `ours` is the page of this repository, which belongs
/// to no chart but its own.
///
/// # Errors
/// [`BadInput`] for a chart that isn't there, and for a named page that can't be read.
pub(super) fn find(chart: &Path, named: Option<&Path>, ours: &Path) -> Result<Found, BadInput> {
    if let Some(page) = named {
        let text = read(page).map_err(|why| BadInput(format!("page {}: {why}", page.display())))?;
        return Ok(Found::Text { path: page.to_owned(), text });
    }
    let shown = chart.display();
    let chart =
        chart.canonicalize().map_err(|error| BadInput(format!("cannot find chart {shown}: {error}")))?;
    let ours = ours.canonicalize().unwrap_or_else(|_| ours.to_owned());
    let Some(path) = beside(&chart, &ours) else { return Ok(Found::Nothing) };
    Ok(match read(&path) {
        Ok(text) => Found::Text { path, text },
        Err(why) => Found::Refused { path, why },
    })
}

/// The nearest page of that name: with a chart in a folder also in the folders above, up to the one that is a repository.
fn beside(chart: &Path, ours: &Path) -> Option<PathBuf> {
    if !chart.is_dir() {
        return within(chart.parent()?);
    }
    let own = ours.ancestors().nth(2) == chart.parent();
    for folder in chart.ancestors().take(ABOVE + 1) {
        let page = within(folder).or_else(|| within(&folder.join(DOCS)));
        if let Some(page) = page.filter(|page| own || page != ours) {
            return Some(page);
        }
        if folder.join(".git").symlink_metadata().is_ok() {
            break;
        }
    }
    None
}

/// The page in a folder, which may be a link; a folder that is one leads nobody knows where.
fn within(folder: &Path) -> Option<PathBuf> {
    if !folder.symlink_metadata().ok()?.is_dir() {
        return None;
    }
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().to_lowercase() == NAME);
    named.map(|entry| entry.path()).min()
}

/// The text of a file; else why it is not read.
fn read(path: &Path) -> Result<String, String> {
    let kind = path.symlink_metadata().map_err(|error| error.to_string())?.file_type();
    if kind.is_symlink() {
        return Err("it is a link, and those are not followed".to_owned());
    }
    if !kind.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err("it is longer than 1 MiB".to_owned());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn with(files: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for file in files.iter().chain(&["a/b/c/chart/Chart.yaml", "a/b/c/counter.tgz"]) {
                let path = dir.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, *file).unwrap();
            }
            Self(dir)
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(path)
        }

        /// The text of the page that is found; each file holds its own name.
        fn found(&self, chart: &str) -> String {
            match find(&self.path(chart), None, Path::new("/nowhere/docs/STATEFULSET.md")).unwrap() {
                Found::Text { text, .. } => text,
                Found::Refused { why, .. } => why,
                Found::Nothing => String::new(),
            }
        }
    }

    #[test]
    fn the_nearest_page_is_taken_in_any_case_and_from_docs() {
        let places = [
            "a/b/c/chart/statefulset.md",
            "a/b/c/chart/docs/STATEFULSET.md",
            "a/b/c/StatefulSet.md",
            "a/b/c/docs/Statefulset.MD",
            "a/docs/STATEFULSET.md",
        ];
        for (at, place) in places.iter().enumerate() {
            assert_eq!(Tree::with(&places[at..]).found("a/b/c/chart"), *place);
        }
        assert_eq!(Tree::with(&["STATEFULSET.md", "a/b/c/README.md"]).found("a/b/c/chart"), "");
    }

    #[test]
    fn nothing_above_a_repository_is_looked_at() {
        let tree = Tree::with(&["a/b/STATEFULSET.md", "a/b/c/.git/HEAD"]);
        assert_eq!(tree.found("a/b/c/chart"), "");
        fs::rename(tree.path("a/b/c/.git"), tree.path("a/b/.git")).unwrap();
        assert_eq!(tree.found("a/b/c/chart"), "a/b/STATEFULSET.md");
    }

    #[test]
    fn an_archive_has_the_page_of_its_own_folder_alone() {
        assert_eq!(
            Tree::with(&["a/b/STATEFULSET.md", "a/b/c/docs/STATEFULSET.md"]).found("a/b/c/counter.tgz"),
            ""
        );
        assert_eq!(Tree::with(&["a/b/c/STATEFULSET.md"]).found("a/b/c/counter.tgz"), "a/b/c/STATEFULSET.md");
    }

    #[test]
    fn the_page_of_this_repository_is_nobody_elses() {
        let tree = Tree::with(&["a/b/docs/STATEFULSET.md", "a/b/chart/Chart.yaml"]);
        let ours = tree.path("a/b/docs/STATEFULSET.md");
        assert_eq!(find(&tree.path("a/b/c/chart"), None, &ours).unwrap(), Found::Nothing);
        assert!(matches!(find(&tree.path("a/b/chart"), None, &ours).unwrap(), Found::Text { .. }));
    }

    #[test]
    fn a_link_a_folder_and_a_file_without_end_are_not_read() {
        let tree = Tree::with(&["secret", "outside/STATEFULSET.md"]);
        std::os::unix::fs::symlink(tree.path("secret"), tree.path("a/b/c/chart/STATEFULSET.md")).unwrap();
        assert_eq!(tree.found("a/b/c/chart"), "it is a link, and those are not followed");
        fs::remove_file(tree.path("a/b/c/chart/STATEFULSET.md")).unwrap();
        std::os::unix::fs::symlink(tree.path("outside"), tree.path("a/b/c/chart/docs")).unwrap();
        assert_eq!(tree.found("a/b/c/chart"), "");
        fs::create_dir(tree.path("a/b/c/STATEFULSET.md")).unwrap();
        assert_eq!(tree.found("a/b/c/chart"), "it is no file");
        fs::write(tree.path("a/b/c/chart/STATEFULSET.md"), vec![b'a'; (1 << 20) + 1]).unwrap();
        assert_eq!(tree.found("a/b/c/chart"), "it is longer than 1 MiB");
    }

    #[test]
    fn a_page_that_is_named_is_taken_before_any_other_and_has_to_be_there() {
        let tree = Tree::with(&["a/b/c/chart/STATEFULSET.md", "REPORT.md"]);
        let find = |page: &str| find(&tree.path("a/b/c/chart"), Some(&tree.path(page)), Path::new("/"));
        assert!(matches!(find("REPORT.md").unwrap(), Found::Text { text, .. } if text == "REPORT.md"));
        let error = find("NOTHING.md").unwrap_err().to_string();
        assert!(error.contains("NOTHING.md: No such file"), "{error}");
    }
}
