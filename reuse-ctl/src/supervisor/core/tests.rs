pub(super) mod world;
