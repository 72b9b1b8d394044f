/** How numbers are said to people. Chances are said as odds, because nobody feels 4.9e-9. */
export function chance(lnP: number): string {
  const exponent = -lnP / Math.LN10
  if (exponent > 15) return `less than 1 in 10^${Math.floor(exponent)}`
  const odds = Math.exp(-lnP)
  return odds < 1.5 ? 'nothing unusual' : `about 1 in ${odds < 1e3 ? roundTo2(odds) : big(roundTo2(odds))}`
}

export function span(ms: number): string {
  const minutes = Math.round(ms / 60_000)
  if (minutes < 1) return 'under a minute'
  if (minutes < 120) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`
  return `${Math.round(hours / 24)} days`
}

/** A rate that may be tiny: `under 0.01`. */
export const rate = (value: number): string => (value === 0 ? '0' : value < 0.01 ? 'under 0.01' : value < 10 ? String(roundTo2(value)) : big(Math.round(value)))

export const devices = (count: number): string => `${big(count)} ${count === 1 ? 'device' : 'devices'}`
export const crashes = (count: number): string => `${big(count)} ${count === 1 ? 'crash' : 'crashes'}`
export const percent = (share: number): string => `${Math.round(share * 100)} %`

const roundTo2 = (value: number): number => Number(value.toPrecision(2))

function big(value: number): string {
  for (const [size, name] of [[1e12, 'trillion'], [1e9, 'billion'], [1e6, 'million']] as const) {
    if (value >= size) return `${roundTo2(value / size)} ${name}`
  }
  return value.toLocaleString('en-US')
}

/** `This detector: 2 of 9 judged alerts were no attack (last 8 weeks)`; a detector that nobody judged says so. */
export function trackRecord(record: { judged: number; wrong: number }): string {
  if (record.judged === 0) return 'Nobody has judged an alert of this detector here in the last 8 weeks, so its false-alarm rate is not known yet.'
  return `In the last 8 weeks ${record.wrong} of ${record.judged} judged ${record.judged === 1 ? 'alert' : 'alerts'} of this detector here ${record.wrong === 1 ? 'was' : 'were'} no attack (${rate(record.wrong / 8)} a week).`
}
