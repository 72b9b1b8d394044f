import { Registry, collectDefaultMetrics } from 'prom-client'

/** Every part registers its metrics here, each with a help text that says what a rise means. */
export type Metrics = Registry

export function createMetrics(options: { defaults: boolean }): Metrics {
  const registry = new Registry()
  if (options.defaults) collectDefaultMetrics({ register: registry })
  return registry
}
