/** The generated messages and services of `tope.v1`. */

export * from "./gen/tope/v1/admin_service_pb.js";
export * from "./gen/tope/v1/event_pb.js";
export * from "./gen/tope/v1/job_pb.js";
export * from "./gen/tope/v1/key_pb.js";
export * from "./gen/tope/v1/policy_pb.js";
export * from "./gen/tope/v1/quota_service_pb.js";
export * from "./gen/tope/v1/terms_pb.js";
export * from "./gen/tope/v1/usage_pb.js";
export * from "./gen/tope/v1/webhook_pb.js";
