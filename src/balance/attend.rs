//! What a pick minds beside the usual: nodes that are ejected, and nodes that have just returned.

use super::{PickCx, affinity::Wanted, chooser::Chooser, service::Shared};
use crate::cluster::{Attention, LoadGuard, Probe};

impl<S: Send + Sync + 'static> Shared<S> {
    /// Minds what there is beside the usual. A node that is due to be tried gets the request.
    #[cold]
    pub(super) fn attend(
        &self,
        calls: u32,
        wanted: Wanted<'_>,
        chooser: &Chooser<S>,
        cx: &mut PickCx<'_>,
    ) -> Option<(S, LoadGuard)>
    where
        S: Clone,
    {
        let attention = &self.cluster.common().attention;
        let has_ramps =
            calls & Attention::RAMPS != 0 && attention.has_ramps(cx.nanos_since(self.cluster.origin()));
        cx.mind(if has_ramps { calls } else { calls & !Attention::RAMPS });
        if calls & Attention::PROBES != 0 { self.probe(wanted, chooser, cx) } else { None }
    }

    /// Sends the request to a node that is ejected and due to be tried, whatever the policy would choose.
    ///
    /// Not one that has failed once, nor one that belongs to another node.
    fn probe(&self, wanted: Wanted<'_>, chooser: &Chooser<S>, cx: &PickCx<'_>) -> Option<(S, LoadGuard)>
    where
        S: Clone,
    {
        let common = self.cluster.common();
        let now = cx.nanos_since(self.cluster.origin());
        if !wanted.tried.is_empty() || !common.attention.is_probe_due(now) {
            return None;
        }
        let only = match wanted.affinity {
            Some(affinity) => Some(chooser.get(affinity.node()).filter(|node| node.state.is_ejected())?),
            None => None,
        };
        let observer = common.observer()?;
        let permit = observer.claim(only.map(|member| &*member.state))?;
        let sent = chooser.endpoint_of(&permit).and_then(|endpoint| {
            let guard = LoadGuard::probe(&endpoint.member, now, permit.term)?;
            Some((S::clone(&endpoint.service), guard))
        });
        if sent.is_none() {
            // It has left, or is full.
            observer.probed(&permit.state, permit.term, Probe::Void);
        }
        sent
    }
}
