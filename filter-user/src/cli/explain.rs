//! `cordon explain`.

use std::{net::IpAddr, process::ExitCode};

use anyhow::Result;
use clap::Args;

use super::{Global, output::table};
use crate::control::{
    api::{Decision, Explanation},
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
    let Explanation { name, client, scopes, node, protocols, agree } = explanation;
    let client = client.map_or("any, in every scope".to_owned(), |client| client.to_string());
    let node = node.as_deref().unwrap_or("none");
    let mut text = format!("name    {name}\nclient  {client}\nscopes  all {}\n", scopes.join(" "));
    text.push_str(&format!("kernel  deepest node {node}\n\n"));
    let mut rows = vec![["protocol", "by", "verdict", "rule", "order", "also"].map(str::to_owned).to_vec()];
    for line in protocols {
        rows.push(row(&line.protocol, "orders", &line.orders));
        rows.push(row("", "kernel", &line.kernel));
    }
    text.push_str(&table(&rows));
    text.push_str(if *agree { "\norders and kernel agree\n" } else { "\nORDERS AND KERNEL DO NOT AGREE\n" });
    text
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
