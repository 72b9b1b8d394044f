/** One row of `alerts` as the detectors would write it, except for what the test says. */
export function alertRow({ opened_at, ...said }: { id: string; opened_at: number } & Record<string, unknown>) {
  const at = new Date(opened_at).toISOString()
  return {
    fleet: 'demo', version: 1, pattern: 'PRB-SPREAD', severity: 'high', state: 'open', bucket: '', device: '', title: 'the same crash on 4 devices', opened_at: at, updated_at: at,
    first_event: at, last_event: at, devices: '4', crashes: '4', p_value: 1e-9, ln_p: -20.7, score: 27, stratum: 'E3-net',
    evidence: JSON.stringify({ what: 'What happened', facts: [{ name: 'devices', value: '4', usual: '0.01' }], for: [{ slug: 'e3', text: 'corruption' }], against: [], unknown: [] }),
    query: 'SELECT 1', query_params: '{"now":"x"}', ...said,
  }
}
