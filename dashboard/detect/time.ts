/** Times as ClickHouse reads and writes them: `2026-11-22 08:12:00.000`, always UTC. */
export const HOUR = 3_600_000
export const DAY = 24 * HOUR

export const sqlTime = (ms: number): string => new Date(ms).toISOString().replace('T', ' ').replace('Z', '')
export const msOf = (time: string): number => Date.parse(`${time.replace(' ', 'T')}Z`)
export const iso = (ms: number): string => new Date(ms).toISOString()
