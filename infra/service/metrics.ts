import { readFileSync } from 'node:fs'
import { Gauge, Registry, collectDefaultMetrics } from 'prom-client'

/** Every part registers its metrics here, each with a help text that says what a rise means. */
export type Metrics = Registry

export function createMetrics(options: { defaults: boolean }): Metrics {
  const registry = new Registry()
  if (options.defaults) {
    collectDefaultMetrics({ register: registry })
    addBuildInfo(registry)
  }
  return registry
}

function addBuildInfo(registry: Metrics): void {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  new Gauge({
    name: 'overrun_build_info', labelNames: ['version', 'commit', 'node'], registers: [registry],
    help: 'Always 1; the labels say what runs. Two values at once outside of a rollout: a process was left behind.',
  }).set({ version, commit: process.env.GIT_COMMIT ?? 'unknown', node: process.versions.node }, 1)
}
