// By hand, though the generated services know them: a start has no time to set those up. A test holds the two together.

export const EVALUATE = "pbflags.v1.FlagEvaluatorService/Evaluate";
export const BULK_EVALUATE = "pbflags.v1.FlagEvaluatorService/BulkEvaluate";
export const WATCH = "pbflagd.v1.WatchService/Watch";

/** Every RPC on the evaluator's port, as `package.Service/Method`. */
export const PROCEDURES: readonly string[] = [
  EVALUATE,
  BULK_EVALUATE,
  "pbflags.v1.FlagEvaluatorService/Health",
  "pbflags.v1.FlagEvaluatorService/GetFlagState",
  "pbflags.v1.FlagEvaluatorService/GetKilledFlags",
  "pbflags.v1.FlagEvaluatorService/GetOverrides",
  "pbflagd.v1.StateService/GetStatus",
  "pbflagd.v1.StateService/GetFlagStates",
  "pbflagd.v1.StateService/GetEntityOverrides",
  "pbflagd.v1.StateService/GetKills",
  "pbflagd.v1.StateService/GetDescriptorSet",
  "pbflagd.v1.UpstreamService/ListUpstreams",
  "pbflagd.v1.UpstreamService/ResetUpstream",
  "pbflagd.v1.UpstreamService/CheckUpstreams",
  WATCH,
  "grpc.health.v1.Health/Check",
  "grpc.health.v1.Health/Watch",
  "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
  "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
