import { sqlTime } from './ask.ts'

/**
 * A range as the longest sets that lie in it:
 *
 *   |--edge--|--hours--|--6 hours--|--days--|---- weeks ----|--days--|--6 hours--|--hours--|--edge--|
 *   from   hours.from  quarters.from  days.from  weeks      days.to   quarters.to   hours.to      to
 *
 * Weeks run from Thursday to Wednesday, as days since 1970 go (infra/clickhouse/schema/011-counts-at-scale.sql).
 */
export const HOUR = 3_600_000
export const QUARTER = 6 * HOUR
export const DAY = 24 * HOUR
export const WEEK = 7 * DAY

interface Range { from: number; to: number }

/** A range in whole sets. */
export interface Spans {
  /** What sets can tell; the rest is at the edges. */
  hours: Range
  /** Rows of a table of sets by `span` (seconds) and `start` that make up the hours: only the arms that the range has. */
  rowsOf(table: string): string
  /** What they are bound with. */
  params: Record<string, string>
}

/** `longest`: of the sets that may be read, ms. */
export function spansOf(range: Range, longest: number): Spans {
  const hours = within(range, HOUR)
  const quarters = longest < QUARTER ? none(hours) : within(hours, QUARTER)
  const days = longest < DAY ? none(quarters) : within(quarters, DAY)
  const weeks = longest < WEEK ? none(days) : within(days, WEEK)
  const arms = [
    arm(HOUR, 'hours_from', hours.from, 'quarters_from', quarters.from), arm(QUARTER, 'quarters_from', quarters.from, 'days_from', days.from), arm(DAY, 'days_from', days.from, 'weeks_from', weeks.from),
    arm(WEEK, 'weeks_from', weeks.from, 'weeks_to', weeks.to),
    arm(DAY, 'weeks_to', weeks.to, 'days_to', days.to), arm(QUARTER, 'days_to', days.to, 'quarters_to', quarters.to), arm(HOUR, 'quarters_to', quarters.to, 'hours_to', hours.to),
  ].flat()
  return {
    hours,
    rowsOf: (table) => (arms.length === 0 ? 'false' : `(${arms.map((each) => each(table)).join(' OR ')})`),
    params: {
      hours_from: sqlTime(hours.from), hours_to: sqlTime(hours.to), quarters_from: sqlTime(quarters.from), quarters_to: sqlTime(quarters.to),
      days_from: sqlTime(days.from), days_to: sqlTime(days.to), weeks_from: sqlTime(weeks.from), weeks_to: sqlTime(weeks.to),
    },
  }
}

const arm = (span: number, first: string, from: number, end: string, to: number): ((table: string) => string)[] =>
  from < to ? [(table) => `(span = ${span / 1000} AND ${table}.start >= {${first}:DateTime64(3)} AND ${table}.start < {${end}:DateTime64(3)})`] : []

/** The whole units inside a range; empty, at its end, when there is none. */
function within(range: Range, unit: number): Range {
  const [first, last] = [Math.ceil(range.from / unit) * unit, Math.floor(range.to / unit) * unit]
  return first < last ? { from: first, to: last } : none(range)
}
const none = ({ to }: Range): Range => ({ from: to, to })
