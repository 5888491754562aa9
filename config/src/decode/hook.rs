//! Webhooks and hooks of a control process.

use crate::model::{Hook, Signature, Template, Webhook};
use crate::section::Section;
use crate::values::Secret;

pub(super) fn webhooks(root: &Section<'_>) -> Vec<Webhook> {
    let webhook = |section: &Section<'_>| {
        let url: Option<String> = section.required("url", "add url = \"https://www.example.com/hook\"");
        let secret: Option<Secret> =
            section.required("secret", "add secret = \"${NEARSIDE_WEBHOOK}\" or secret = { file = \"…\" }");
        if url.as_ref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            section.object(
                "url",
                "this is no URL that can be told anything",
                "neither http nor https",
                "write https://…",
            );
        }
        let events = section.list("events");
        Some(Webhook { url: url?, secret: secret?, events })
    };
    root.sections("webhook").iter().filter_map(webhook).collect()
}

pub(super) fn hooks(root: &Section<'_>) -> Vec<Hook> {
    let mut hooks: Vec<Hook> = Vec::new();
    for section in &root.sections("hook") {
        let name: Option<String> = section.required("name", "add name = \"cms\": it is told at /v1/hooks/cms");
        let secret: Option<Secret> =
            section.required("secret", "add secret = \"${NEARSIDE_HOOK_CMS}\" or secret = { file = \"…\" }");
        let site: Option<String> = section.required("site", "add site = \"www\": it may purge no other");
        let (tags, urls, prefixes): (Vec<Template>, Vec<Template>, Vec<Template>) =
            (section.list("tags"), section.list("urls"), section.list("prefixes"));
        let (signature, soft) = (section.or("signature", Signature::default()), section.or("soft", false));
        let purged = ["tags", "urls", "prefixes"];
        if purged.iter().all(|key| section.is_void(key)) {
            section.all_absent(
                &purged,
                "this hook purges nothing",
                "neither tags nor urls nor prefixes",
                "add tags = [\"product-{/id}\"]",
            );
        }
        let (Some(name), Some(secret), Some(site)) = (name, secret, site) else { continue };
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !is_plain || hooks.iter().any(|other| other.name == name) {
            section.object(
                "name",
                "a hook cannot have this name",
                "letters, digits, '-' and '_', each name once",
                "choose another",
            );
        }
        hooks.push(Hook { name, secret, signature, site, tags, urls, prefixes, soft });
    }
    hooks
}
