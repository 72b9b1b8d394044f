import type { Link, Span as OtelSpan } from '@opentelemetry/api'
import { messageOf } from './errors.ts'
import type { Logger } from './logger.ts'

/**
 * Traces through OpenTelemetry, when somebody asks for them with the standard variables: OTEL_EXPORTER_OTLP_ENDPOINT (or
 * OTEL_EXPORTER_OTLP_TRACES_ENDPOINT), OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, ... Without them nothing
 * of it is loaded, and a span is a function call. OTLP over HTTP is what is spoken.
 * https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 *
 * One trace is one crash: it begins at the door, goes with the message in its `traceparent` header
 * (https://www.w3.org/TR/trace-context/) and ends when the row is written. A batch is a trace of its own that links to those
 * of its crashes. A device's own traceparent is not believed: whoever sends it would choose what is recorded.
 */
export interface Tracing {
  /** Runs the work as a span; what it starts inside are its children. An exception ends it as failed and goes on. */
  span<T>(name: string, options: SpanOptions, work: (span: Span) => Promise<T>): Promise<T>
  /** A span that is ended by hand, exactly once. */
  start(name: string, options: SpanOptions): Span
  /** For the headers of a message: where the span that runs now is. */
  carrier(): Record<string, string>
  /** Sends what is not sent yet. */
  stop(): Promise<void>
}

export interface Span {
  set(attributes: Attributes): void
  end(error?: unknown): void
}
export type Attributes = Readonly<Record<string, string | number | boolean>>
export interface SpanOptions {
  kind?: 'internal' | 'server' | 'producer' | 'consumer' | 'client'
  attributes?: Attributes
  /** Headers of a message: the span that sent it is the parent. */
  parent?: Readonly<Record<string, string>>
  /** Headers of messages that this is about as well. */
  links?: readonly Readonly<Record<string, string>>[]
}

const NO_SPAN: Span = { set() {}, end() {} }
export const NO_TRACING: Tracing = { span: (_name, _options, work) => work(NO_SPAN), start: () => NO_SPAN, carrier: () => ({}), async stop() {} }

/** The specification's own bound; a batch may have more messages. */
const MAX_LINKS = 128
const FLUSH_MS = 3_000

type Environment = Readonly<Record<string, string | undefined>>

const isAsked = (env: Environment): boolean =>
  env.OTEL_SDK_DISABLED?.toLowerCase() !== 'true' && env.OTEL_TRACES_EXPORTER !== 'none'
  && Boolean(env.OTEL_EXPORTER_OTLP_ENDPOINT || env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)

export async function startTracing({ part, logger, env = process.env }: { part: string; logger: Logger; env?: Environment }): Promise<Tracing> {
  if (!isAsked(env)) return NO_TRACING
  const [{ context, propagation, trace, ROOT_CONTEXT, SpanKind, SpanStatusCode }, { BatchSpanProcessor, NodeTracerProvider }, { OTLPTraceExporter }, { detectResources, envDetector, resourceFromAttributes }] = await Promise.all([
    import('@opentelemetry/api'), import('@opentelemetry/sdk-trace-node'), import('@opentelemetry/exporter-trace-otlp-http'), import('@opentelemetry/resources'),
  ])
  // A part that nobody named is called after itself.
  const resource = resourceFromAttributes({ 'service.name': `overrun-${part}` }).merge(detectResources({ detectors: [envDetector] }))
  const provider = new NodeTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] })
  provider.register()
  const tracer = trace.getTracer('overrun')
  logger.info({ stage: 'start', endpoint: env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT }, 'traces are sent')

  const kinds = { internal: SpanKind.INTERNAL, server: SpanKind.SERVER, producer: SpanKind.PRODUCER, consumer: SpanKind.CONSUMER, client: SpanKind.CLIENT }
  const contextOf = (headers: Readonly<Record<string, string>>) => propagation.extract(ROOT_CONTEXT, headers)
  const linkOf = (headers: Readonly<Record<string, string>>): Link[] => {
    const linked = trace.getSpanContext(contextOf(headers))
    return linked === undefined ? [] : [{ context: linked }]
  }
  const begin = (name: string, { kind = 'internal', attributes = {}, parent, links = [] }: SpanOptions): OtelSpan =>
    tracer.startSpan(name, { kind: kinds[kind], attributes, links: links.flatMap(linkOf).slice(0, MAX_LINKS) }, parent === undefined ? context.active() : contextOf(parent))
  const spanOf = (otel: OtelSpan): Span => ({
    set: (attributes) => void otel.setAttributes({ ...attributes }),
    end(error) {
      if (error !== undefined) otel.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) })
      otel.end()
    },
  })

  return {
    start: (name, options) => spanOf(begin(name, options)),
    async span(name, options, work) {
      const otel = begin(name, options)
      const span = spanOf(otel)
      try {
        const result = await context.with(trace.setSpan(context.active(), otel), () => work(span))
        span.end()
        return result
      } catch (error) {
        span.end(error)
        throw error
      }
    },
    carrier() {
      const headers: Record<string, string> = {}
      propagation.inject(context.active(), headers)
      return headers
    },
    // A collector that is away must not hold up a stop.
    stop: () => Promise.race([provider.shutdown(), new Promise<void>((resolve) => setTimeout(resolve, FLUSH_MS).unref())]),
  }
}
