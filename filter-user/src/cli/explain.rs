//! `cordon explain`.

use std::{net::IpAddr, process::ExitCode};

use anyhow::Result;
use clap::Args;

use super::{Global, output::table};
use crate::control::{
    api::{Decision, Explanation, ProtocolExplanation},
    client::escaped,
};

#[derive(Args, Debug)]
pub(super) struct Explain {
    /// The name
    name: String,
    /// The client's address; without it, a client in every scope is meant
    #[arg(long, value_name = "ADDR")]
    client: Option<IpAddr>,
}

impl Explain {
    pub fn run(self, global: &Global) -> Result<ExitCode> {
        let mut path = format!("/v1/explain?name={}", escaped(&self.name));
        if let Some(client) = self.client {
            path.push_str(&format!("&client={}", escaped(&client.to_string())));
        }
        let explanation: Explanation = global.client()?.get(&path)?;
        global.output.print(&explanation, text)?;
        Ok(if explanation.agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn text(explanation: &Explanation) -> String {
    let Explanation { name, client, scopes, node, interfaces, protocols, agree } = explanation;
    let client = client.map_or("any, in every scope".to_owned(), |client| client.to_string());
    let node = node.as_deref().unwrap_or("none");
    let mut text = format!("name    {name}\nclient  {client}\nscopes  all {}\n", scopes.join(" "));
    let interfaces = if interfaces.is_empty() { "NO INTERFACE".to_owned() } else { interfaces.join(" ") };
    text.push_str(&format!("kernel  deepest node {node}; attached to {interfaces}\n\n"));
    let mut rows = vec![["protocol", "by", "verdict", "rule", "order", "also"].map(str::to_owned).to_vec()];
    for line in protocols {
        rows.push(row(&line.protocol, "orders", &line.orders));
        rows.push(row(&where_read(line), "kernel", &line.kernel));
    }
    text.push_str(&table(&rows));
    text.push_str(if *agree { "\norders and kernel agree\n" } else { "\nORDERS AND KERNEL DO NOT AGREE\n" });
    text
}

fn where_read(line: &ProtocolExplanation) -> String {
    match &line.ports {
        _ if !line.read => "  not read: would be".to_owned(),
        None => "  any port".to_owned(),
        Some(ports) => format!("  port {}", ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")),
    }
}

fn row(protocol: &str, by: &str, decision: &Decision) -> Vec<String> {
    let verdict = match &decision.reason {
        Some(reason) => format!("{} ({reason})", decision.verdict),
        None => decision.verdict.clone(),
    };
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let others = decision.concerned.iter().filter(|id| Some(*id) != decision.order.as_ref()).cloned();
    let also = others.collect::<Vec<_>>().join(" ");
    vec![protocol.to_owned(), by.to_owned(), verdict, or_dash(&decision.rule), or_dash(&decision.order), also]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_does_not_look_stopped() {
        let decision = Decision {
            verdict: "drop".to_owned(),
            reason: None,
            order: Some("o".to_owned()),
            rule: Some("a.example".to_owned()),
            concerned: vec!["o".to_owned()],
        };
        let line = |protocol: &str, read, ports| ProtocolExplanation {
            protocol: protocol.to_owned(),
            read,
            ports,
            orders: decision.clone(),
            kernel: decision.clone(),
            agree: true,
        };
        let explanation = Explanation {
            name: "a.example".to_owned(),
            client: None,
            scopes: Vec::new(),
            node: Some("a.example".to_owned()),
            interfaces: Vec::new(),
            protocols: vec![line("dns", true, Some(vec![53])), line("quic", false, Some(Vec::new()))],
            agree: true,
        };
        let text = text(&explanation);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[3], "kernel  deepest node a.example; attached to NO INTERFACE");
        assert!(lines[7].starts_with("  port 53"), "{text}");
        assert!(lines[9].starts_with("  not read: would be  kernel  drop"), "{text}");
    }
}
