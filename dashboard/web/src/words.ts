/** How values read on the page: times in UTC, counts with separators, evidence in words. */
export const EVIDENCE = [
  { name: 'E0', words: 'environment', tone: '' },
  { name: 'E1', words: 'robustness', tone: '' },
  { name: 'E2', words: 'suspicious memory fault', tone: 'warn' },
  { name: 'E3', words: 'corruption caught', tone: 'crit' },
  { name: 'E4', words: 'control flow', tone: 'attack' },
] as const

export const DETECTORS: Record<string, string> = {
  'PRB-SPREAD': 'the same crash racing across the fleet',
  'PRB-SWEEP': 'somebody guesses addresses on one device',
  'PRB-PATTERN': 'an attacker-shaped value in the program counter',
  'PRB-CANARY': 'somebody guesses the stack canary',
  'PRB-REPLAY': 'a key was copied, or a device set back',
}

export const count = (value: number): string => value.toLocaleString('en-US')
/** `1 bucket`, `3 buckets`. */
export const counted = (value: number, noun: string): string => `${count(value)} ${noun}${value === 1 ? '' : noun.endsWith('sh') ? 'es' : 's'}`
export const when = (iso: string): string => `${iso.slice(0, 10)} ${iso.slice(11, 16)}`
export const clock = (iso: string): string => iso.slice(11, 19)
export const short = (id: string): string => id.slice(0, 8)

export function ago(iso: string, now: string): string {
  const seconds = Math.max(0, (Date.parse(now) - Date.parse(iso)) / 1000)
  if (seconds < 90) return `${Math.round(seconds)} s ago`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`
  return `${Math.round(seconds / 86_400)} d ago`
}

export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${(seconds / 3600).toFixed(1)} h`
  return `${Math.round(seconds / 86_400)} d`
}

/** ln p as people read chances: `1 in 200 million`. */
export function oneIn(lnP: number): string {
  const power = -lnP / Math.LN10
  if (power < 3) return `1 in ${Math.max(1, Math.round(10 ** power))}`
  if (power < 6) return `1 in ${Math.round(10 ** (power - 3))} thousand`
  if (power < 9) return `1 in ${Math.round(10 ** (power - 6))} million`
  return `1 in 10^${Math.floor(power)}`
}
