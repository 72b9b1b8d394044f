import { Session } from 'chdb'

/**
 * chdb with several readers and one writer over one directory.
 *
 * Settings and parameters that SET gives a connection stay on it. So a statement that reads gets one on which exactly its
 * own settings were set, and no parameters but those that it names and sets anew: pages ask the same few questions again
 * and again, and a connection of their own would cost half of a small one. All other statements get a new one. Bound
 * parameters go through `SET param_x` rather than chdb's own binding, which keeps them in one place for the whole process and
 * so lets only one bound statement run at a time. A root connection stays open, because the last one to close ends the engine.
 */
export interface Statement {
  sql: string
  /** As HTTP has them: in ClickHouse's tab-separated escaping. */
  params: Readonly<Record<string, string>>
  settings: Readonly<Record<string, string>>
  database: string
  /** Used when the statement names no format. */
  format: string
  /** Rows for `INSERT INTO table (columns) FORMAT name`. */
  insert?: { table: string; columns?: string[]; format: 'JSONEachRow' | 'JSONCompactEachRow' | 'TabSeparated' | 'CSV'; rows: Uint8Array }
}

export interface Outcome { bytes: Uint8Array; readRows: number; readBytes: number; writtenRows: number; writtenBytes: number; elapsedNs: number }

export interface Lanes {
  /** Waits for a free lane, runs `work` on it, and frees it. */
  use<T>(lane: 'read' | 'write', work: (run: (statement: Statement) => Promise<Outcome>) => Promise<T>): Promise<T>
  /** Resolves when nothing runs any more; nothing new is started. */
  close(): Promise<void>
}

/** In force for each statement unless it says otherwise. Parallel parsing would cut one insert into several blocks. */
const baseline = (memoryLimitBytes: number): Record<string, string> => ({
  max_query_size: String(16 * 1024 * 1024),
  max_threads: '1',
  max_insert_threads: '1',
  max_execution_time: '60',
  max_memory_usage: String(Math.floor(memoryLimitBytes / 3)),
  max_bytes_before_external_group_by: String(Math.floor(memoryLimitBytes / 12)),
  max_bytes_before_external_sort: String(Math.floor(memoryLimitBytes / 12)),
  max_result_bytes: String(64 * 1024 * 1024),
  input_format_parallel_parsing: '0',
  output_format_parallel_formatting: '0',
})

/** A page has ten questions, and four readers may ask the same. */
const KEPT_CONNECTIONS = 32

/**
 * A page unites some ten thousand rows of sets, each of which takes a moment: two threads share even so few. What it groups
 * stays in memory up to half of what a statement may use: sets that are spilled to the disk cost three times the CPU.
 */
const readSettings = (memoryLimitBytes: number): Record<string, string> => ({
  max_threads: '2',
  max_threads_min_free_memory_per_thread: '0',
  merge_tree_min_rows_for_concurrent_read: '2048',
  merge_tree_min_bytes_for_concurrent_read: '1048576',
  max_bytes_before_external_group_by: String(Math.floor(memoryLimitBytes / 6)),
})

/** A block goes into a dozen tables, each of which waits for its own sync: side by side rather than one after the other. */
const INSERT_SETTINGS = { parallel_view_processing: '1', max_threads: '4', max_threads_min_free_memory_per_thread: '0' }

export function openLanes(options: { directory: string; config: string; readers: number; memoryLimitBytes: number }): Lanes {
  const root = new Session(options.directory, { connectionArgs: [`--config-file=${options.config}`] })
  const defaults = baseline(options.memoryLimitBytes)
  const readers = createGate(options.readers)
  const writer = createGate(1)

  const kept = createKept(KEPT_CONNECTIONS)

  /** One on which the settings and parameters of the statement are in force. */
  async function connect(statement: Statement, key: string, lane: 'read' | 'write'): Promise<Session> {
    const known = kept.take(key)
    const session = known ?? new Session(options.directory)
    try {
      // One statement for all of them, since each costs as much as a small question; `readonly` among them forbids what comes after.
      if (!known && statement.database !== 'default') await session.queryAsync(`USE ${identifier(statement.database)}`)
      const ofLane = statement.insert ? INSERT_SETTINGS : lane === 'read' ? readSettings(options.memoryLimitBytes) : {}
      const settings = known ? '' : assignments({ ...defaults, ...ofLane, ...statement.settings, ...(key === '' ? {} : { readonly: '2' }) }, '')
      const all = [settings, assignments(statement.params, 'param_')].filter((part) => part !== '')
      if (all.length > 0) await session.queryAsync(`SET ${all.join(', ')}`)
      return session
    } catch (error) {
      session.close()
      throw error
    }
  }

  async function run(statement: Statement, lane: 'read' | 'write'): Promise<Outcome> {
    const key = lane === 'read' ? keyOf(statement) : ''
    const session = await connect(statement, key, lane)
    let well = false
    try {
      if (statement.insert) {
        const { rows, ...target } = statement.insert
        const done = await session.insert({ ...target, values: rows })
        return {
          bytes: new Uint8Array(0), readRows: done.rowsSent ?? 0, readBytes: done.bytesSent,
          writtenRows: done.rowsWritten, writtenBytes: done.bytesWritten, elapsedNs: Math.round(done.elapsed * 1e9),
        }
      }
      const result = await session.queryAsync(statement.sql, { format: statement.format })
      well = true
      return {
        bytes: result.bytes(), readRows: result.rowsRead, readBytes: result.bytesRead,
        writtenRows: 0, writtenBytes: 0, elapsedNs: Math.round(result.elapsed * 1e9),
      }
    } finally {
      if (well && key !== '') kept.keep(key, session)
      else session.close()
    }
  }

  return {
    use: (lane, work) => (lane === 'read' ? readers : writer).hold(() => work((statement) => run(statement, lane))),
    async close() {
      await Promise.all([readers.shut(), writer.shut()])
      kept.close()
      root.close()
    },
  }
}

/** At most `slots` holders at a time, first come first served. shut() resolves when the last holder has left. */
function createGate(slots: number) {
  let free = slots
  let closed = false
  const waiting: (() => void)[] = []
  const idle: (() => void)[] = []

  function leave(): void {
    const next = waiting.shift()
    if (next) return next()
    free++
    if (free === slots) for (const resolve of idle.splice(0)) resolve()
  }

  return {
    async hold<T>(work: () => Promise<T>): Promise<T> {
      if (closed) throw new Error('Code: 236. DB::Exception: The engine is stopping. (ABORTED)')
      if (free > 0) free--
      else await new Promise<void>((resolve) => waiting.push(resolve))
      try {
        return await work()
      } finally {
        leave()
      }
    },
    async shut(): Promise<void> {
      closed = true
      if (free < slots) await new Promise<void>((resolve) => idle.push(resolve))
    },
  }
}

/** Idle connections by what was set on them, at most `limit`: the one that was used longest ago goes first. */
function createKept(limit: number) {
  const idle: { key: string; session: Session }[] = []
  return {
    take(key: string): Session | undefined {
      const at = idle.findLastIndex((each) => each.key === key)
      return at < 0 ? undefined : idle.splice(at, 1)[0]?.session
    },
    keep(key: string, session: Session): void {
      idle.push({ key, session })
      if (idle.length > limit) idle.shift()?.session.close()
    },
    close(): void {
      for (const { session } of idle.splice(0)) session.close()
    },
  }
}

/**
 * Empty for what needs a connection of its own. `readonly` 1 forbids to set parameters too, so a kept connection has 2, which
 * forbids all writing as well, but not a SET behind a semicolon.
 */
const keyOf = ({ sql, settings, params, database, insert }: Statement): string =>
  insert === undefined && (settings['readonly'] === '1' || settings['readonly'] === '2') && !sql.includes(';') ? JSON.stringify([database, settings, Object.keys(params).toSorted()]) : ''

const SETTING_NAME = /^[A-Za-z_][A-Za-z0-9_.]{0,127}$/

function assignments(values: Readonly<Record<string, string>>, prefix: string): string {
  return Object.entries(values).map(([name, value]) => {
    if (!SETTING_NAME.test(name)) throw new Error(`Code: 115. DB::Exception: ${JSON.stringify(name)} is not a name of a setting or parameter. (UNKNOWN_SETTING)`)
    return `${prefix}${name} = ${literal(value)}`
  }).join(', ')
}

/** A string literal of ClickHouse's SQL; NUL would end the statement at the C boundary. */
function literal(value: string): string {
  return `'${value.replace(/[\\'\0]/g, (char) => (char === '\0' ? '\\0' : `\\${char}`))}'`
}

const identifier = (name: string): string => `\`${name.replace(/[\\`]/g, (char) => `\\${char}`).replaceAll('\0', '')}\``
