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

/** Rows of a table of sets by `span` (seconds) and `start` that make up the whole hours, bound with `spansOf().params`. */
export const wholeSpans = (table: string): string => `((span = 604800 AND ${table}.start >= {weeks_from:DateTime64(3)} AND ${table}.start < {weeks_to:DateTime64(3)})
      OR (span = 86400 AND ${table}.start >= {days_from:DateTime64(3)} AND ${table}.start < {weeks_from:DateTime64(3)})
      OR (span = 86400 AND ${table}.start >= {weeks_to:DateTime64(3)} AND ${table}.start < {days_to:DateTime64(3)})
      OR (span = 21600 AND ${table}.start >= {quarters_from:DateTime64(3)} AND ${table}.start < {days_from:DateTime64(3)})
      OR (span = 21600 AND ${table}.start >= {days_to:DateTime64(3)} AND ${table}.start < {quarters_to:DateTime64(3)})
      OR (span = 3600 AND ${table}.start >= {hours_from:DateTime64(3)} AND ${table}.start < {quarters_from:DateTime64(3)})
      OR (span = 3600 AND ${table}.start >= {quarters_to:DateTime64(3)} AND ${table}.start < {hours_to:DateTime64(3)}))`

/** `longest`: of the sets that may be read, ms. `hours`: what sets can tell; the rest is at the edges. */
export function spansOf(range: Range, longest: number): { hours: Range; params: Record<string, string> } {
  const hours = within(range, HOUR)
  const quarters = longest < QUARTER ? none(hours) : within(hours, QUARTER)
  const days = longest < DAY ? none(quarters) : within(quarters, DAY)
  const weeks = longest < WEEK ? none(days) : within(days, WEEK)
  return {
    hours,
    params: {
      hours_from: sqlTime(hours.from), hours_to: sqlTime(hours.to), quarters_from: sqlTime(quarters.from), quarters_to: sqlTime(quarters.to),
      days_from: sqlTime(days.from), days_to: sqlTime(days.to), weeks_from: sqlTime(weeks.from), weeks_to: sqlTime(weeks.to),
    },
  }
}

/** The whole units inside a range; empty, at its end, when there is none. */
function within(range: Range, unit: number): Range {
  const [first, last] = [Math.ceil(range.from / unit) * unit, Math.floor(range.to / unit) * unit]
  return first < last ? { from: first, to: last } : none(range)
}
const none = ({ to }: Range): Range => ({ from: to, to })
