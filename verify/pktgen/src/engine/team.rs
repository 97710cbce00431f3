//! The engines of all cores, as one.

use super::share::Routers;
use super::{Engine, EngineError, Settings};
use crate::convergence::Watcher;
use crate::latency::Recorder;
use crate::neighbor::Link;
use crate::pacer::Load;
use crate::plan::Plan;
use crate::report::{Figures, Phase};
use crate::traffic::signature::MAX_CORES;
use crate::trial::Trial;

pub struct Team(Vec<Engine>);

impl Team {
    /// An engine for each core, with an equal share of the flows, the load, the window and the memory.
    pub fn new(
        plan: Plan,
        links: &[Link],
        settings: &Settings,
        cores: usize,
        now_ns: u64,
    ) -> Result<Self, EngineError> {
        if !(1..=MAX_CORES).contains(&cores) {
            return Err(EngineError::Cores(cores));
        }
        let routers = Routers::new(links.len());
        for (number, link) in links.iter().enumerate() {
            routers.put(number, link.peer_mac);
        }
        // A whole table is not copied for one core.
        let shares = match cores {
            1 => vec![plan],
            _ => (0..cores).map(|core| plan.share(core, cores)).collect(),
        };
        let engine = |(core, share): (usize, Plan)| {
            let settings = Settings {
                window: settings.window.map(|window| window.div_ceil(cores)),
                remembered: settings.remembered / cores,
                // The same sequence of ports on all cores would send to one of them at a time.
                seed: settings.seed.wrapping_add(core as u64),
                ..settings.clone()
            };
            let shared = (core as u8, cores as u8, routers.clone());
            Engine::of_team(share, links.to_vec(), settings, shared, now_ns)
        };
        shares.into_iter().enumerate().map(engine).collect::<Result<_, _>>().map(Self)
    }

    pub fn engines(&mut self) -> &mut [Engine] {
        &mut self.0
    }

    /// Begins a trial on all of them. False, without effect, unless all are ready.
    pub fn start(&mut self, load: Load, now_ns: u64) -> bool {
        let ready = self.0.iter().all(|engine| engine.phase() == Phase::Ready);
        if ready {
            let cores = self.0.len() as u64;
            for (core, engine) in (0..).zip(&mut self.0) {
                let count = load.count.map(|count| count / cores + u64::from(core < count % cores));
                engine.start(Load { pps: load.pps / cores as f64, count, ..load }, now_ns);
            }
        }
        ready
    }

    /// The result of the last trial, once.
    pub fn result(&mut self) -> Option<Trial> {
        let results: Option<Vec<Trial>> = self.0.iter_mut().map(Engine::result).collect();
        let latency = Recorder::merged(self.0.iter().map(|engine| &engine.latency))?;
        let curve = latency.curve();
        results.and_then(Trial::sum).map(|trial| Trial { latency: latency.summary(), curve, ..trial })
    }

    /// The current figures. Takes a while.
    pub fn figures(&mut self, now_ns: u64) -> Figures {
        let figures: Vec<Figures> = self.0.iter_mut().map(|engine| engine.figures(now_ns)).collect();
        let mut figures = Figures::sum(&figures);
        if self.0.len() > 1 {
            let latency = Recorder::merged(self.0.iter().map(|engine| &engine.latency));
            figures.set_latency(latency.and_then(|latency| latency.summary()));
            figures.reconvergence = Watcher::summary(self.0.iter().map(|engine| &engine.convergence));
        }
        figures
    }

    /// No further trial will come.
    pub fn finish(&mut self) {
        self.0.iter_mut().for_each(Engine::finish);
    }

    /// Mean size with FCS of the frames, over the families of the flows.
    pub fn mean_size(&self) -> f64 {
        self.0.iter().map(Engine::mean_size).sum::<f64>() / self.0.len() as f64
    }

    /// The smallest IPv6 frame with FCS, if there are any.
    pub fn smallest_ipv6(&self) -> Option<usize> {
        self.0.iter().filter_map(Engine::smallest_ipv6).min()
    }
}
